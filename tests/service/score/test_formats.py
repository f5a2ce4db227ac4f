"""CSV, Arrow, NDJSON and JSON, in and out: the same scores in all of them, and what does not fit named by its place."""

import asyncio
import csv
import gzip
import io
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pytest

from service.codecs.thread_limits import THREAD_BYTES, THREAD_RECORDS
from service.wire.compression import LEAST_BYTES
from tests.conftest import NAME
from tests.service.score.test_score import MARK, PAYMENT

Records = list[dict[str, Any]]
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
FORMATS = (JSON, NDJSON, CSV, ARROW)


def stream(table: pa.Table, rows: int | None = None, **options: Any) -> bytes:
    """A table as an IPC stream, so many rows a batch."""
    target = io.BytesIO()
    with pa.ipc.new_stream(target, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, rows)
    return target.getvalue()


def as_csv(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pyarrow.csv.write_csv(table, target)
    return target.getvalue()


def written(media_type: str, records: Records) -> bytes:
    """Records as a client sends them."""
    if media_type == JSON:
        return orjson.dumps({"records": records})
    if media_type == NDJSON:
        return b"\n".join(map(orjson.dumps, records))
    table = pa.Table.from_pylist(records)
    return as_csv(table) if media_type == CSV else stream(table, 7)


def results(response: httpx.Response) -> Records:
    """The answer as JSON's results, whatever its format."""
    assert response.status_code == 200, response.text
    match response.headers["content-type"]:
        case "application/json":
            found: Records = response.json()["results"]
        case "application/x-ndjson":
            found = list(map(orjson.loads, response.content.splitlines()))
        case "text/csv":
            assert response.content.endswith(b"\r\n")
            found = [_result(row) for row in csv.DictReader(io.StringIO(response.text, newline=""))]
        case _:
            table = pa.ipc.open_stream(response.content).read_all()
            assert pa.types.is_fixed_size_list(table.schema.field("latent_mean").type)
            assert table.schema.field("latent_mean").type.value_type == pa.float32()
            found = table.to_pylist()
    return found


def _result(row: dict[str, str]) -> dict[str, Any]:
    flag = {"true": True, "false": False}
    result = {name: flag[cell] if cell in flag else float(cell) if cell else None for name, cell in row.items()}
    latent = [result.pop(f"latent_mean_{index}") for index in range(sum(name.startswith("latent") for name in row))]
    return result | {"latent_mean": latent}


def same(found: Records, expected: Records) -> None:
    """Each result is the expected one: within 1e-5 nats a field, or 1e-5 of it."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == {
            name: value if isinstance(value, bool) else pytest.approx(value, rel=1e-5, abs=1e-5 * len(PAYMENT))
            for name, value in other.items()
        }


async def post(client: httpx.AsyncClient, body: bytes, sent: str, wanted: str = JSON, query: str = "") -> Any:
    return await client.post(f"/score{query}", content=body, headers={"Content-Type": sent, "Accept": wanted})


@pytest.mark.parametrize("sent", FORMATS)
async def test_every_format_gives_the_same_scores_in_every_format(
    client: httpx.AsyncClient, payments: Records, sent: str
) -> None:
    expected = results(await post(client, written(JSON, payments[:20]), JSON))
    body = written(sent, payments[:20])
    for wanted in FORMATS:
        response = await post(client, body, sent, wanted)
        assert response.headers["content-type"] == wanted
        same(results(response), expected)
        assert response.headers["surprisal-model"] == NAME
        assert response.headers["surprisal-version"] == "1"
        assert response.headers["surprisal-samples"] == "16"
        assert "accept-encoding" in response.headers["vary"]
    unasked = await client.post("/score", content=body, headers={"Content-Type": sent})
    assert unasked.headers["content-type"] == sent


@pytest.mark.parametrize("sent", FORMATS)
async def test_the_query_says_how_many_samples(client: httpx.AsyncClient, payments: Records, sent: str) -> None:
    expected = orjson.dumps({"records": payments[:3], "samples": 2})
    response = await post(client, written(sent, payments[:3]), sent, query="?samples=2")
    same(results(response), results(await post(client, expected, JSON)))
    assert response.headers["surprisal-samples"] == "2"
    for wrong in ("?samples=3", "?samples=", "?draws=2", "?samples=2&x=1"):
        assert (await post(client, written(sent, payments[:3]), sent, query=wrong)).status_code == 422


@pytest.mark.parametrize("sent", FORMATS)
async def test_large_bodies_and_answers_are_the_same_as_small_ones(
    client: httpx.AsyncClient, payments: Records, sent: str
) -> None:
    many = payments * 10
    body = written(sent, many)
    assert len(body) > THREAD_BYTES
    assert len(many) > THREAD_RECORDS
    expected = [result["anomaly_score"] for result in results(await post(client, written(JSON, payments), JSON))]
    found = [result["anomaly_score"] for result in results(await post(client, body, sent, sent))]
    np.testing.assert_allclose(found, expected * 10, rtol=1e-5, atol=1e-5)
    too_many = await post(client, written(sent, payments * 10 + payments[:1]), sent)
    assert (too_many.status_code, too_many.json()["type"]) == (413, "too-many-records")


@pytest.mark.parametrize("wanted", FORMATS)
async def test_answers_are_compressed_for_those_who_ask(
    client: httpx.AsyncClient, payments: Records, wanted: str
) -> None:
    async def answer(records: Records, accepted: str) -> httpx.Response:
        headers = {"Content-Type": JSON, "Accept": wanted, "Accept-Encoding": accepted}
        return await client.post("/score", content=written(JSON, records), headers=headers)

    for records in (payments[:40], payments):
        plain, compressed = await answer(records, "identity"), await answer(records, "gzip")
        assert "content-encoding" not in plain.headers
        assert compressed.headers["content-encoding"] == "gzip"
        assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"])
        same(results(compressed), results(plain))
    small = await answer(payments[:1], "gzip")
    assert ("content-encoding" in small.headers) is (len(small.content) > LEAST_BYTES)


async def test_what_is_missing_is_missing_in_every_format(client: httpx.AsyncClient) -> None:
    texts = {name: value for name, value in PAYMENT.items() if isinstance(value, str)}
    records: Records = [
        PAYMENT | {"amount": None, "country": None, "card_present": None},
        PAYMENT | {"hour": None, "distance_km": None},
        {**dict.fromkeys(PAYMENT), **texts},
    ]
    expected = results(await post(client, written(JSON, records), JSON))
    for sent in FORMATS:
        same(results(await post(client, written(sent, records), sent)), expected)
    left_out: Records = [{"amount": 31.4, "country": "SE"}, {"amount": None, "country": "NO"}]
    expected = results(await post(client, written(JSON, left_out), JSON))
    for sent in FORMATS:
        same(results(await post(client, written(sent, left_out), sent)), expected)
    # A null in a dictionary is not its last entry, and NaN is missing as well.
    encoded = pa.table(
        {"country": pa.array(["SE", None, "NO"]).dictionary_encode(), "amount": [1.0, float("nan"), 2.0]}
    )
    plain: Records = [{"country": "SE", "amount": 1.0}, {"amount": None}, {"country": "NO", "amount": 2.0}]
    refused = await post(client, stream(encoded), ARROW)
    assert refused.json()["errors"] == [{"pointer": "/2", "detail": "no field is present"}]
    del plain[1]
    same(
        results(await post(client, stream(encoded.take([0, 2])), ARROW)),
        results(await post(client, written(JSON, plain), JSON)),
    )


async def test_csv_cells_mean_what_they_mean_in_files(client: httpx.AsyncClient) -> None:
    body = (
        '\ufeffcountry,"card_present",amount,new_merchant\r\n'
        'SE,1, 12.5 ,FALSE\r\n"S""E, x\ny",NA,1e2,0.0\r\nnan,True,null,N/A\r\nNone,TRUE,-3,\r\n'
    )
    records: Records = [
        {"country": "SE", "card_present": True, "amount": 12.5, "new_merchant": False},
        {"country": 'S"E, x\ny', "amount": 100, "new_merchant": False},
        {"card_present": True},
        {"card_present": True, "amount": -3},
    ]
    same(results(await post(client, body.encode(), CSV)), results(await post(client, written(JSON, records), JSON)))


async def test_arrow_columns_of_kindred_types_are_taken(client: httpx.AsyncClient) -> None:
    expected = results(await post(client, written(JSON, [PAYMENT, PAYMENT | {"hour": 3}]), JSON))
    plain = pa.Table.from_pylist([PAYMENT, PAYMENT | {"hour": 3}])
    kindred = {
        "transactions_24h": [pa.int8(), pa.uint64(), pa.float16(), pa.decimal128(23, 2)],
        "country": [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
        "card_present": [pa.int64(), pa.float32()],
    }
    for name, types in kindred.items():
        for kind in types:
            place = plain.schema.get_field_index(name)
            response = await post(client, stream(plain.set_column(place, name, plain[name].cast(kind))), ARROW)
            same(results(response), expected)


def table(**columns: Any) -> bytes:
    return stream(pa.table(columns))


def views(text: str) -> Any:
    """A column that refers to a dictionary of views."""
    return pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([text], pa.string_view()))


REFUSED: list[tuple[str, str, bytes, int, str, str]] = [
    ("an unknown column", CSV, b"amount,colour\n1,red\n", 422, "/colour", "no field"),
    ("a column twice", CSV, b"amount,amount\n1,2\n", 422, "/amount", "more than one"),
    ("an empty name", CSV, b"amount,\n1,2\n", 422, "/", "no field"),
    ("no rows", CSV, b"amount,country\r\n", 422, "", "at least one record"),
    ("blank rows alone", CSV, b"amount,country\n\n\n", 422, "", "at least one record"),
    ("a header alone", CSV, b"amount", 422, "", "at least one record"),
    ("no number", CSV, f"amount,hour\n1,2\n{MARK},3\n".encode(), 422, "/2/amount", "a number is expected"),
    ("two wrong numbers", CSV, f"amount,hour\n1,2\n{MARK},x\n".encode(), 422, "/2/hour", "a number is expected"),
    ("infinity", CSV, b"amount\n1\ninf\n", 422, "/2/amount", "finite"),
    ("no flag", CSV, f"amount,card_present\n1,true\n2,{MARK}\n".encode(), 422, "/2/card_present", "true or false"),
    ("nothing present", CSV, b"amount,country\n1,SE\nNA,\n", 422, "/2", "no field is present"),
    ("an empty body", CSV, b"", 400, "", "first row"),
    ("a blank first row", CSV, b"\namount\n1\n", 400, "", "first row"),
    ("a ragged row", CSV, f"amount,hour\n1,2\n{MARK}\n".encode(), 400, "", "line 3 has 1 cells, the header 2"),
    ("no UTF-8", CSV, b"amount,country\n1,\xff\n", 400, "", "UTF-8"),
    ("a header in no UTF-8", CSV, b"\xff\xfea\0\n\0", 400, "", "UTF-8"),
    ("an open quote", CSV, b'"amount', 400, "", "first row"),
    ("a million columns", CSV, b"," * 1_000_000, 422, "/", "no field"),
    ("a million times a column", CSV, b"amount," * 9_000 + b"amount\n1\n", 422, "/amount", "more than one"),
    ("an unknown column", ARROW, table(amount=[1.0], colour=["red"]), 422, "/colour", "no field"),
    ("no columns", ARROW, stream(pa.table({})), 422, "", "no column"),
    ("no rows", ARROW, table(amount=pa.array([], pa.float64())), 422, "", "at least one record"),
    ("a dictionary of views", ARROW, table(country=views("SE")), 422, "/country", "not of views"),
    ("text for numbers", ARROW, table(amount=[MARK]), 422, "/amount", "a column of numbers"),
    ("booleans for numbers", ARROW, table(amount=[True]), 422, "/amount", "a column of numbers"),
    ("lists", ARROW, table(amount=[[1.0]]), 422, "/amount", "a column of numbers"),
    ("bytes", ARROW, table(country=[MARK.encode()]), 422, "/country", "text or numbers"),
    ("a dictionary of numbers", ARROW, table(amount=pa.array([1.0]).dictionary_encode()), 422, "/amount", "numbers"),
    ("a number that is no flag", ARROW, table(card_present=[1, 2]), 422, "/2/card_present", "true or false"),
    ("infinity", ARROW, table(amount=[1.0, float("inf")]), 422, "/2/amount", "finite"),
    ("an empty body", ARROW, b"", 400, "", "IPC stream"),
    ("text", ARROW, MARK.encode() * 100, 400, "", "IPC stream"),
    ("a file", ARROW, b"ARROW1\0\0" + table(amount=[1.0]), 400, "", "not a file"),
    ("two streams", ARROW, table(amount=[1.0]) * 2, 400, "", "more after the end"),
    ("half a stream", ARROW, table(amount=[1.0] * 99)[:-300], 400, "", "damaged"),
    ("no JSON", NDJSON, b'{"amount": 1}\n\n{"amount":', 422, "/3", "not JSON"),
    ("a wrong value", NDJSON, f'\n{{"amount": "{MARK}"}}'.encode(), 422, "/2/amount", "a number is expected"),
    ("an unknown field", NDJSON, b'{"a/b": 1}', 422, "/1/a~1b", "no such field"),
    ("two records a line", NDJSON, b'{"amount": 1} {"amount": 2}\n', 422, "/1", "not JSON"),
    ("a record over two lines", NDJSON, b"[1,2\n,3]", 422, "/1", "not JSON"),
    ("no record", NDJSON, b"7\n", 422, "/1", "an object by field name"),
    ("nothing", NDJSON, b"\n \r\n", 422, "", "at least one record"),
]


@pytest.mark.parametrize(
    ("sent", "body", "status", "pointer", "words"),
    [case[1:] for case in REFUSED],
    ids=[" ".join(c[:2]) for c in REFUSED],
)
async def test_what_does_not_fit_is_named_by_its_place_and_without_its_value(
    client: httpx.AsyncClient, sent: str, body: bytes, status: int, pointer: str, words: str
) -> None:
    response = await post(client, body, sent)
    assert response.status_code == status, response.text
    problem = response.json()
    assert words in problem["detail"] + str(problem.get("errors"))
    assert MARK not in response.text
    if status == 422:
        assert pointer in [each["pointer"] for each in problem["errors"]]
    assert (await post(client, written(JSON, [PAYMENT]), JSON)).status_code == 200


async def test_all_that_is_wrong_is_named_up_to_a_hundred(client: httpx.AsyncClient) -> None:
    for sent in (NDJSON, ARROW):
        wrong = written(sent, [{"card_present": 3, "amount": 1}] * 500)
        pointers = [each["pointer"] for each in (await post(client, wrong, sent)).json()["errors"]]
        assert pointers == [f"/{row}/card_present" for row in range(1, 101)]


async def test_compressed_arrow_buffers_are_415(client: httpx.AsyncClient) -> None:
    zeros = pa.table({"amount": np.zeros(10**6), "country": pa.array(["SE"] * 10**6).dictionary_encode()})
    for columns in (["amount"], ["country"]):
        for codec in ("lz4", "zstd"):
            response = await post(client, stream(zeros.select(columns), compression=codec), ARROW)
            assert (response.status_code, response.json()["type"]) == (415, "unsupported-media-type")
            assert "Content-Encoding" in response.json()["detail"]


async def test_texts_that_share_their_bytes_are_not_multiplied(client: httpx.AsyncClient) -> None:
    long = "x" * 2**20
    entries = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int16()), pa.array([long]))
    assert (await post(client, table(country=entries), ARROW)).status_code == 200
    view = pa.array([long], pa.string_view())
    one, text = view.buffers()[1].to_pybytes(), view.buffers()[2]
    views = pa.Array.from_buffers(pa.string_view(), 10_000, [None, pa.py_buffer(one * 10_000), text])
    assert (await post(client, table(country=views), ARROW)).status_code == 400


def mutated(body: bytes, other: bytes, chance: random.Random) -> bytes:
    """A body with flipped bytes, cut off, or with a part of another one in it."""
    changed = bytearray(body)
    match chance.randrange(4):
        case 0 | 1:
            for _ in range(chance.choice([1, 2, 8])):
                place = chance.randrange(len(changed))
                changed[place] = chance.choice([0, 1, 127, 128, 255, changed[place] ^ (1 << chance.randrange(8))])
        case 2:
            del changed[chance.randrange(len(changed)) :]
        case _:
            place, start = chance.randrange(len(changed)), chance.randrange(len(other))
            changed[place : place + chance.choice([0, 8, 200])] = other[start : start + chance.randrange(1, 400)]
    return bytes(changed)


def test_damaged_bodies_are_refused_and_the_service_goes_on(server: str, payments: Records) -> None:
    chance = random.Random(0)
    plain = pa.Table.from_pylist(payments[:30])
    encoded = plain.set_column(2, "merchant_category", plain["merchant_category"].dictionary_encode())
    encoded = encoded.set_column(3, "country", encoded["country"].cast(pa.string_view()))
    bodies = {
        ARROW: [stream(plain), stream(plain, 7), stream(encoded), stream(encoded, 7, compression="lz4")],
        CSV: [as_csv(plain), as_csv(plain.select(["amount", "country"]))],
        NDJSON: [written(NDJSON, payments[:30])],
    }
    with httpx.Client(base_url=server) as client:
        for sent, times in ((ARROW, 1200), (CSV, 200), (NDJSON, 200)):
            for _ in range(times):
                body = mutated(chance.choice(bodies[sent]), chance.choice(bodies[sent]), chance)
                response = client.post("/score", content=body, headers={"Content-Type": sent, "Accept": JSON})
                assert response.status_code in {200, 400, 413, 415, 422}, (response.text, body)
        response = client.post("/score", content=stream(plain), headers={"Content-Type": ARROW})
        assert len(results(response)) == 30


@pytest.fixture
async def concurrent(server: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server, timeout=60, limits=httpx.Limits(max_connections=64)) as client:
        yield client


async def test_64_clients_at_a_time_each_get_the_scores_of_their_own_records(
    concurrent: httpx.AsyncClient, payments: Records
) -> None:
    chosen = payments[:200]
    alone = [results(await post(concurrent, written(JSON, [payment]), JSON))[0] for payment in chosen]
    chance = random.Random(7)

    async def one_client() -> None:
        for _ in range(3):
            numbers = chance.choices(range(len(chosen)), k=chance.choice([1, 2, chance.randrange(1, 60)]))
            sent, wanted = chance.choice(FORMATS), chance.choice(FORMATS)
            body = written(sent, [chosen[number] for number in numbers])
            headers = {"Content-Type": sent, "Accept": wanted, "Accept-Encoding": chance.choice(["gzip", "identity"])}
            if chance.random() < 0.3:
                body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
            response = await concurrent.post("/score", content=body, headers=headers)
            same(results(response), [alone[number] for number in numbers])

    await asyncio.gather(*(one_client() for _ in range(64)))


async def test_the_documented_examples_are_answered(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    described = document["paths"]["/score"]["post"]
    assert list(described["requestBody"]["content"]) == list(FORMATS)
    assert list(described["responses"]["200"]["content"]) == list(FORMATS)
    for sent in (NDJSON, CSV):
        example = described["requestBody"]["content"][sent]["example"]
        (result,) = results(await post(client, example.encode(), sent))
        assert set(result) == set(document["components"]["schemas"]["Result"]["required"])


@pytest.mark.parametrize("wanted", FORMATS)
async def test_a_density_that_a_double_cannot_hold_is_null(client: httpx.AsyncClient, wanted: str) -> None:
    (result,) = results(await post(client, written(JSON, [PAYMENT | {"amount": 1e300}]), JSON, wanted))
    assert result["reconstruction_probability"] is None
    assert result["log_reconstruction_probability"] < -1000
    assert result["is_anomaly"] is True
