"""Which codec reads a body, and which writes the answer."""

from typing import Any

import pytest

from service.codecs import arrow, csv, json, ndjson
from service.errors import MediaTypeUnsupported, NotAcceptable
from service.score import negotiation


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        (b"", json),
        (b"application/json", json),
        (b"Application/JSON; charset=UTF-8", json),
        (b"application/json;charset=utf8", json),
        (b"application/x-ndjson", ndjson),
        (b"text/csv", csv),
        (b'text/csv; charset="utf-8"; header=present', csv),
        (b"application/vnd.apache.arrow.stream", arrow),
        (b"application/vnd.apache.arrow.stream; charset=whatever", arrow),
    ],
)
def test_a_body_is_read_by_its_media_type(content_type: bytes, codec: Any) -> None:
    assert negotiation.decoder({b"content-type": content_type}) is codec
    assert negotiation.decoder({}) is json


@pytest.mark.parametrize(
    ("content_type", "word"),
    [
        (b"text/plain", "text/csv"),
        (b"application/vnd.apache.arrow.file", "arrow.stream"),
        (b"application/json; charset=utf-16", "UTF-8"),
        (b"text/csv; charset=iso-8859-1", "UTF-8"),
        (b"application/x-ndjson; charset*=latin-1''x", "UTF-8"),
        (b"text/csv; header=absent", "header row"),
        (b";", "application/json"),
        (b"\xff\xfe", "application/json"),
    ],
)
def test_what_is_not_read_is_refused_with_what_is(content_type: bytes, word: str) -> None:
    with pytest.raises(MediaTypeUnsupported, match=word):
        negotiation.decoder({b"content-type": content_type})


@pytest.mark.parametrize(
    ("accept", "codec"),
    [
        (None, csv),
        (b"*/*", csv),
        (b"text/*", csv),
        (b"application/*", json),
        (b"application/json", json),
        (b"application/json, text/csv", csv),
        (b"application/x-ndjson;q=0.5, application/vnd.apache.arrow.stream;q=0.7", arrow),
        (b"text/csv;q=0, */*;q=0.1", json),
        (b"text/html, application/x-ndjson; q=0.2", ndjson),
        (b"text/csv; header=present", csv),
    ],
)
def test_the_answer_is_what_is_wanted_most(accept: bytes | None, codec: Any) -> None:
    assert negotiation.encoder({} if accept is None else {b"accept": accept}, csv) is codec


@pytest.mark.parametrize("accept", [b"text/html", b"text/csv;q=0", b"application/json;q=never", b",;,"])
def test_nothing_else_is_written(accept: bytes) -> None:
    if accept == b",;,":  # an empty range means anything
        assert negotiation.encoder({b"accept": accept}, csv) is csv
        return
    with pytest.raises(NotAcceptable, match="application/json"):
        negotiation.encoder({b"accept": accept}, csv)
