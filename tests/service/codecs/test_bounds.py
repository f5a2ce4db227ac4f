"""No parser is entered without a bound on what it can make of the body; the bound holds, whatever the body is."""

import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.record.images import in_base64
from service.codecs import csv, json, ndjson, scan
from service.engine.question import Question
from service.errors import ServiceError
from service.openinference import request as infer
from tests.conftest import simulate_images
from tests.service.codecs import hostile_bodies
from tests.service.codecs.hostile_bodies import Hostile
from tests.service.codecs.peak import CODECS, Job, Outcome
from tests.service.score.image_bodies import in_json
from tests.service.score.test_formats import FORMATS, written
from training.pipeline import Trained

MIB = 2**20
SPARE = 4 * MIB
"""What a process takes by itself meanwhile: pieces of a scan, pages that allocators hold."""
MOST = 10_000
EVERY = settings(deadline=None, derandomize=True, database=None, max_examples=60, suppress_health_check=[*HealthCheck])
Ask = Callable[[Job], Outcome]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Has a body decoded in a process of its own, and measured."""
    command = [sys.executable, "-m", "tests.service.codecs.peak"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        jobs, answers = process.stdin, process.stdout

        def asked(job: Job) -> Outcome:
            pickle.dump(job, jobs)
            jobs.flush()
            outcome: Outcome = pickle.load(answers)
            return outcome

        yield asked
        jobs.close()


def held(ask: Ask, folder: Path, route: str, body: bytes, header: bytes | None = None, most: int = MOST) -> Outcome:
    """What came of a body, which took no more than was said."""
    bound, peak, ended = outcome = ask((folder, route, body, header, most))
    if isinstance(bound, str):
        assert ended == bound, "decoding refuses what counting refuses"
        # An error of the parser's own is not certain before.
        assert peak <= SPARE, f"{peak / MIB:.1f} MiB for a refusal"
    else:
        assert peak <= 1.25 * bound + SPARE, f"{peak / MIB:.1f} MiB of {bound / MIB:.1f} MiB; {ended}"
    return outcome


CASES: dict[str, Hostile] = {
    f"{kind} {name}": case
    for kind, cases in (
        ("JSON", hostile_bodies.JSON),
        ("lines", hostile_bodies.LINES),
        ("CSV", hostile_bodies.CSV),
        ("Arrow", hostile_bodies.ARROW),
        ("infer", hostile_bodies.INFER),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_made_to_cost_more_than_it_weighs(trained: Trained, ask: Ask, name: str) -> None:
    route, body = CASES[name]()
    bound, _, ended = held(ask, trained.folder, route, body)
    assert ended != "died"
    if not isinstance(bound, str):
        assert bound < 64 * len(body) + 64 * MIB


@pytest.mark.parametrize("media_type", FORMATS)
def test_the_bound_of_honest_records_is_no_more_than_some_times_their_size(
    trained: Trained, ask: Ask, payments: list[dict[str, object]], media_type: str
) -> None:
    route, most = dict(zip(FORMATS, [("json", 20), ("ndjson", 24), ("csv", 40), ("arrow", 64)], strict=True))[
        media_type
    ]
    body = written(media_type, payments * 9)
    bound, _, ended = held(ask, trained.folder, route, body)
    assert ended == "decoded"
    assert isinstance(bound, int)
    assert bound / len(body) < most


def test_images_in_every_form(trained_images: Trained, ask: Ask) -> None:
    many = simulate_images(500, seed=1)
    for body in (in_json(many.tolist()), in_json([in_base64(each) for each in many])):
        _, _, ended = held(ask, trained_images.folder, "json", body)
        assert ended == "decoded"


def values() -> st.SearchStrategy[object]:
    leaves = (
        st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    ) | st.text(max_size=12)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6),
        max_leaves=12,
    )


@EVERY
@given(
    unit=values(),
    times=st.integers(1, 20_000),
    route=st.sampled_from(["json", "ndjson", "infer"]),
    fault=st.text(max_size=2),
)
def test_json_of_any_shape(trained: Trained, ask: Ask, unit: object, times: int, route: str, fault: str) -> None:
    one = orjson.dumps(unit)
    times = min(times, 2 * MIB // len(one))
    if route == "ndjson":
        body = (one + b"\n") * times + fault.encode()
    else:
        before = b'{"records":[' if route == "json" else b'{"inputs":['
        body = before + (one + b",") * times + one + b"]}" + fault.encode()
    held(ask, trained.folder, route, body)


@EVERY
@given(
    pieces=st.lists(
        st.sampled_from(["1", "x", ",", "\n", '"', "\r", "", "é", "\U0001f600", "NA", "true"]), min_size=1, max_size=12
    ),
    names=st.lists(st.sampled_from(["amount", "country", "card_present", "hour"]), min_size=1, max_size=4, unique=True),
    times=st.integers(1, 60_000),
)
def test_csv_of_any_shape(trained: Trained, ask: Ask, pieces: list[str], names: list[str], times: int) -> None:
    held(ask, trained.folder, "csv", (",".join(names) + "\n" + "".join(pieces) * times).encode())


@pytest.mark.parametrize("scale", [77, 2**20, 2**31 - 1, -100, -(2**31)])
def test_a_decimal_whose_scale_is_beyond_its_digits(trained: Trained, ask: Ask, scale: int) -> None:
    column = pa.Array.from_buffers(pa.decimal256(38, scale), 1, pa.array([1]).cast(pa.decimal256(38, 0)).buffers())
    _, _, ended = held(ask, trained.folder, "arrow", hostile_bodies.stream(hostile_bodies.columns(amount=column)))
    assert ended == "invalid-request"


TYPES = [
    pa.float64(), pa.float16(), pa.int8(), pa.uint64(), pa.bool_(), pa.string(), pa.large_string(), pa.string_view(),
    pa.decimal128(20, 3), pa.decimal256(70, 3), pa.timestamp("us", "UTC"), pa.date32(), pa.null(), pa.binary(),
    pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int64(), pa.float64()), pa.list_(pa.uint8(), 3),
]  # fmt: skip


@EVERY
@given(data=st.data())
def test_an_arrow_stream_whatever_it_claims(trained: Trained, ask: Ask, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(trained.manifest.record.names), min_size=1, max_size=4, unique=True))
    rows = data.draw(st.integers(0, 3_000))
    arrays = {}
    for name in names:
        kind = data.draw(st.sampled_from(TYPES))
        value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
        plain = (
            [7, None]
            if value_type not in (pa.string(), pa.bool_())
            else ["\U0001f600x" if value_type == pa.string() else True, None]
        )
        try:
            arrays[name] = pa.array((plain * rows)[:rows], value_type).cast(kind)
        except (pa.ArrowException, TypeError):
            arrays[name] = pa.nulls(rows, kind)
    batch = pa.record_batch(arrays)
    body = bytearray(hostile_bodies.stream(*[batch] * data.draw(st.integers(1, 3))))
    # Numbers of the heads, which stand where small ones do, become large: lengths, offsets, counts, references.
    places = [
        place for place in range(0, len(body) - 8, 4) if struct.unpack_from("<q", body, place)[0] in (rows, 1, 2, 3)
    ]
    for _ in range(data.draw(st.integers(0, 3))):
        if places:
            claimed = data.draw(st.sampled_from([0, 1, rows + 1, 10**5, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, -1, -2]))
            struct.pack_into("<q", body, data.draw(st.sampled_from(places)), claimed)
    for _ in range(data.draw(st.integers(0, 2))):
        body[data.draw(st.integers(0, min(len(body), 2000) - 1))] = data.draw(st.integers(0, 255))
    _, _, ended = held(ask, trained.folder, "arrow", bytes(body))
    assert ended != "died"


@EVERY
@given(data=st.data())
def test_tensors_whatever_they_claim(trained: Trained, ask: Ask, data: st.DataObject) -> None:
    inputs, blobs = [], b""
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["BYTES", "BOOL", "UINT8", "FP16", "FP64", "INT64"]))
        shape = data.draw(
            st.lists(st.sampled_from([1, 2, 6, 1000, 10**4, 10**6, 2**31, 2**62]), min_size=1, max_size=3)
        )
        length = data.draw(st.sampled_from([0, 1, 2, 40]))
        unit = (
            struct.pack("<I", length) + b"\xf0\x9f\x98\x80"[:length] + b"a" * max(0, length - 4)
            if kind == "BYTES"
            else b"\1" * 8
        )
        blob = unit * min(int(np.prod([float(size) for size in shape])), MIB // len(unit))
        size = data.draw(st.sampled_from([len(blob), 0, 2**40]))
        name = data.draw(st.sampled_from([*trained.manifest.record.names[:5], "numeric", "categorical", "other"]))
        inputs.append({"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": size}})
        blobs += blob
    head = orjson.dumps({"inputs": inputs})
    held(ask, trained.folder, "infer", head + blobs, str(len(head)).encode())


@EVERY
@given(
    pieces=st.lists(st.sampled_from([b'"', b'\\"', b"\\\\", b"[", b"{", b",", b"NaN", b"aN", b" "]), max_size=40),
    piece=st.integers(3, 9),
)
def test_what_texts_hold_is_passed_over(pieces: list[bytes], piece: int) -> None:
    """Against a walk by characters; a piece of the scan may end anywhere."""
    body = b"".join(pieces)
    inside, escaped, count, replaced, place = False, False, 0, b"", 0
    while place < len(body):
        byte = body[place : place + 1]
        if not inside and byte == b"\\":
            return  # a fault, after which nothing is promised
        if not inside and body.startswith(b"NaN", place):
            if body.startswith(b"NaNaN", place):
                return
            replaced, place = replaced + b"null", place + 3
            continue
        count += not inside and byte in b"[{,"
        if escaped:
            escaped = False
        elif byte == b"\\":
            escaped = True
        elif byte == b'"':
            inside = not inside
        replaced, place = replaced + byte, place + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_PIECE", piece)
        assert scan.outside_strings(body, b"[{,") == count
        if body:
            assert scan.with_null_for_nan(body) == replaced


def test_a_body_that_holds_too_much_is_refused_before_it_is_parsed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("orjson.loads", never)
    monkeypatch.setattr("pyarrow.csv.read_csv", never)
    monkeypatch.setattr("pyarrow.ipc.open_stream", never)
    for name in ("JSON empty arrays", "lines empty arrays", "CSV rows", "Arrow empty batches", "infer empty arrays"):
        route, body = CASES[name]()
        decode = partial(infer.decode, body, None) if route == "infer" else partial(CODECS[route].decode, body)
        with pytest.raises(ServiceError) as refused:
            decode(manifest=trained.manifest, max_records=MOST, question=Question.usual(trained.manifest))
        assert refused.value.slug == "too-many-records"


def test_texts_may_hold_what_is_counted(trained: Trained) -> None:
    """A whole request of texts full of commas and brackets is within the bound on values."""
    record = {"amount": 1.0, "country": "[a, b], {c, d}: " * 3}
    body = orjson.dumps({"records": [record] * 9_999})
    assert body.count(b",") + body.count(b"[") + body.count(b"{") > MOST * (len(trained.manifest.record.names) + 2)
    assert json.bound(body, trained.manifest, MOST) < 40 * len(body)


def test_lines_are_bounded_together_and_one_by_one(trained: Trained, payments: list[dict[str, object]]) -> None:
    schema = trained.manifest.record
    texts = [orjson.dumps(each) for each in payments[:500]]
    assert ndjson.bound_lines(texts, schema) < 24 * sum(map(len, texts))
    wide = b"[" + b"[]," * 30_000 + b"[]]"
    assert ndjson.bound_lines([wide] * 3, schema) < MIB
    records = ndjson.parse(schema, [wide, texts[0]], enough=3)
    assert records.problems[0][0].detail == "more values than a record holds"
    assert records.tensors is not None
    assert len(records.tensors["numeric"]) == 1


def test_a_first_row_that_names_no_field_is_not_sent_back(trained: Trained) -> None:
    with pytest.raises(ServiceError) as refused:
        csv.bound(b"S3CRET,400.5\n" * 600, trained.manifest, MOST)
    assert refused.value.detail == (
        "the body: the first row is to name the fields; none of its 2 cells is one: send a header row"
    )
