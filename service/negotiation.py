"""Media types: what a request's body is, and what its answer shall be."""

from typing import Protocol

from bundle.manifest import Manifest
from service.asgi import Headers
from service.codecs import json
from service.codecs.request import ScoreRequest
from service.errors import MediaTypeUnsupported, NotAcceptable
from service.verdicts import Verdicts


class Codec(Protocol):
    """A module that reads and writes one media type."""

    MEDIA_TYPE: str

    def decode(self, body: bytes, manifest: Manifest, max_records: int, samples: int) -> ScoreRequest:
        """Read a body of `POST /score`.

        Args:
            body: Inflated.
            manifest: Of the model that is asked.
            max_records: Most records in a request.
            samples: Number of draws unless the body itself asks for another.

        Raises:
            BodyMalformed: It is not of this media type.
            RequestInvalid: A member or a record that does not fit, by JSON pointer.
            TooManyRecords: More records than allowed.
        """

    def encode(self, name: str, version: int, samples: int, verdicts: Verdicts) -> bytes:
        """Write the answer.

        Args:
            name: The model that answered.
            version: Its version.
            samples: Number of draws.
            verdicts: Of B records.
        """


CODECS: dict[str, Codec] = {codec.MEDIA_TYPE: codec for codec in (json,)}


def decoder(headers: Headers) -> Codec:
    """What reads the request's body; no `Content-Type` means JSON.

    Raises:
        MediaTypeUnsupported: Nothing does.
    """
    given = headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1")
    try:
        return CODECS[given or json.MEDIA_TYPE]
    except KeyError:
        raise MediaTypeUnsupported(f"Content-Type: one of {', '.join(CODECS)} is read here") from None


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
    wanted = _wanted(accept.decode("latin-1"))
    best: Codec | None = None
    best_weight = 0.0
    for codec in (asked, *CODECS.values()):
        weight = _weight(wanted, codec.MEDIA_TYPE)
        if weight > best_weight:
            best, best_weight = codec, weight
    if best is None:
        raise NotAcceptable(f"Accept: one of {', '.join(CODECS)} is written here")
    return best


def _wanted(accept: str) -> dict[str, float]:
    wanted: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        wanted[media_type or "*/*"] = weight
    return wanted


def _weight(wanted: dict[str, float], media_type: str) -> float:
    """The weight of the most specific range that covers a media type (RFC 9110, section 12.5.1)."""
    for covering in (media_type, media_type.split("/")[0] + "/*", "*/*"):
        if covering in wanted:
            return wanted[covering]
    return 0.0
