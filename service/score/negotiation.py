"""Media types: what a request's body is, and what its answer shall be."""

from email.message import Message
from functools import lru_cache
from typing import Protocol

from bundle.contents.manifest import Manifest
from service.codecs import arrow, csv, json, ndjson
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import MediaTypeUnsupported, NotAcceptable
from service.wire.asgi import Headers
from service.wire.compression import weighed


class Codec(Protocol):
    """A module that reads and writes one media type."""

    MEDIA_TYPE: str

    def decode(
        self, body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
    ) -> ScoreRequest:
        """Read a body of `POST /score`.

        Args:
            body: Inflated.
            manifest: Of the model that is asked.
            max_records: Most records in a request.
            question: What is asked of each record, unless the body itself asks something else.
            admission: May refuse so many records before their tensors are made.

        Raises:
            BodyMalformed: It is not of this media type.
            RequestInvalid: A member or a record that does not fit, by JSON pointer.
            TooManyRecords: More records than allowed.
        """

    def bound(self, body: bytes, manifest: Manifest, max_records: int) -> int:
        """Most bytes that `decode` makes of a body, the body itself apart, at the worst moment.

        It is counted in the bytes, by what takes next to no memory and linear time; no length that the body claims is
        believed. `decode` refuses by itself what is refused here.

        Args:
            body: Inflated.
            manifest: Of the model that is asked.
            max_records: Most records in a request.

        Raises:
            BodyMalformed: It is not of this media type.
            MediaTypeUnsupported: What it holds is not read here.
            RequestInvalid: It is certain already that something does not fit.
            TooManyRecords: It holds more than so many records do.
        """

    def encode(self, name: str, version: int, question: Question, verdicts: Verdicts) -> bytes:
        """Write the answer.

        Args:
            name: The model that answered.
            version: Its version.
            question: What was asked.
            verdicts: Of B records.
        """


CODECS: dict[str, Codec] = {codec.MEDIA_TYPE: codec for codec in (json, ndjson, csv, arrow)}
"""By media type, the one that is preferred first."""
NDJSON: Codec = ndjson

_PLAIN = {b"": CODECS[json.MEDIA_TYPE]} | {media_type.encode(): codec for media_type, codec in CODECS.items()}
"""By `Content-Type` as most clients write it."""
_UTF_8 = {"utf-8", "utf8"}


def decoder(headers: Headers) -> Codec:
    """What reads the request's body; no `Content-Type` means JSON.

    Raises:
        MediaTypeUnsupported: Nothing does, or not in this charset.
    """
    given = headers.get(b"content-type", b"")
    return _PLAIN.get(given) or _parsed(given.decode("latin-1"))


def encoder(headers: Headers, asked: Codec) -> Codec:
    """What writes the answer: the most wanted type of `Accept`, and the request's own where that leaves a choice.

    Args:
        headers: The request's.
        asked: What read the request.

    Raises:
        NotAcceptable: The client accepts nothing that is written here.
    """
    accept = headers.get(b"accept")
    if accept is None or accept == b"*/*":
        return asked
    wanted = weighed(accept.decode("latin-1"))
    best: Codec | None = None
    best_weight = 0.0
    for codec in (asked, *CODECS.values()):
        weight = _weight(wanted, codec.MEDIA_TYPE)
        if weight > best_weight:
            best, best_weight = codec, weight
    if best is None:
        raise NotAcceptable(f"Accept: one of {', '.join(CODECS)} is written here")
    return best


@lru_cache(64)
def _parsed(content_type: str) -> Codec:
    head = Message()
    head["content-type"] = content_type
    media_type = content_type.split(";")[0].strip().lower()
    codec = CODECS.get(media_type)
    if codec is None:
        raise MediaTypeUnsupported(f"Content-Type: one of {', '.join(CODECS)} is read here")
    if codec is not arrow and str(head.get_param("charset", "utf-8")).lower() not in _UTF_8:
        raise MediaTypeUnsupported("Content-Type: text is read in UTF-8 here, and in no other charset")
    if codec is csv and str(head.get_param("header", "present")).lower() == "absent":
        raise MediaTypeUnsupported("Content-Type: CSV is read with a header row, which names the columns")
    return codec


def _weight(wanted: dict[str, float], media_type: str) -> float:
    """The weight of the most specific range that covers a media type (RFC 9110, section 12.5.1)."""
    for covering in (media_type, media_type.split("/")[0] + "/*", "*/*"):
        if covering in wanted:
            return wanted[covering]
    return 0.0
