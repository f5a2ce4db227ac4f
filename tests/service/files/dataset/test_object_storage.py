"""Data sets in object storage, over a real S3 interface on this machine."""

import hashlib
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

from service.files.dataset import shard
from service.files.dataset.driver import ShardsFailed, Summary
from service.files.dataset.job import OutFailed
from tests.conftest import NAME, until
from tests.service.files.dataset.conftest import FILES, ROWS, Score, digests
from tests.surprisal.cli.command import surprisal

pytest.importorskip("moto", reason="moto[server] of the extra dev is not installed")
from tests.service.files.dataset.storage import BUCKET, KEY, SECRET, Asked, Storage, served

Digests = dict[str, str]


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """Object storage for the tests of this module, each in a folder of its own."""
    with served() as found:
        yield found


@pytest.fixture(autouse=True)
def _open(storage: Storage, monkeypatch: pytest.MonkeyPatch, source: Path) -> Iterator[None]:
    """Nothing is refused before a test says so; and a file is one shard."""
    monkeypatch.setattr(shard, "ROWS", 10**6)
    storage.asked.clear()
    yield
    storage.refuses = lambda asked: None


def without_keys(found: Digests) -> Digests:
    """Digests by path: the key in a name holds the time at which its file was written."""
    return {re.sub(r"-[0-9a-f]{16}\.parquet$", "", path): digest for path, digest in found.items()}


def results(storage: Storage, path: str) -> Digests:
    found = {name: content for name, content in storage.contents(path).items() if name.endswith(".parquet")}
    return without_keys({name: hashlib.sha256(content).hexdigest() for name, content in found.items()})


@pytest.mark.parametrize(
    "named", ["in", "in/day=1/*.parquet", "in/day=0/part-2.parquet", "text", "text/day=0/part-0.csv"]
)
def test_what_is_scored_there_has_the_bytes_of_what_is_scored_here(
    score: Score,
    storage: Storage,
    source: Path,
    payments: pa.Table,
    tmp_path: Path,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard, "BYTES", 10_000)
    for number in range(2):
        path = tmp_path / "text" / f"day={number}" / f"part-{number}.csv"
        path.parent.mkdir(parents=True)
        pyarrow.csv.write_csv(payments.slice(number * ROWS, ROWS), path)
    folder = named.partition("/")[0]
    storage.put(tmp_path / folder, f"same/{folder}")
    here = score(source=str(tmp_path / named))
    storage.asked.clear()
    out = f"same/out-{named.replace('/', '-').replace('*', 'all')}"
    there = score(storage.uri(f"{BUCKET}/{out}"), source=storage.uri(f"{BUCKET}/same/{named}"))
    assert (there.rows, there.flagged, there.shards) == (here.rows, here.flagged, here.shards)
    assert results(storage, out) == without_keys(digests(tmp_path / "out"))
    assert {"_SUCCESS", "_surprisal/manifest.json"} <= storage.contents(out).keys()
    read = [asked.range for asked in storage.asked if asked.method == "GET" and asked.path.endswith(".csv")]
    assert all(read), "no shard takes the whole file"
    assert len(read) > 2 * there.shards or folder == "in"


@pytest.fixture
def score_there(score: Score, storage: Storage, tmp_path: Path) -> Score:
    """Scores the data set into a folder of the bucket."""
    storage.put(tmp_path / "in", "in")

    def call(out: str = "out", **asked: Any) -> Summary:
        return score(storage.uri(f"{BUCKET}/{out}"), source=storage.uri(f"{BUCKET}/in"), **asked)

    return call


def test_puts_that_fail_now_and_then_change_nothing(
    score: Score, score_there: Score, storage: Storage, tmp_path: Path
) -> None:
    score()
    puts = count(1)

    def refused(asked: Asked) -> int | None:
        return (500, 503)[next(puts) % 2] if asked.method == "PUT" and next(puts) % 3 == 0 else None

    storage.refuses = refused
    assert score_there("now-and-then", workers=2).rows == FILES * ROWS
    storage.refuses = lambda asked: None
    assert next(puts) > 3 * FILES
    assert results(storage, "now-and-then") == without_keys(digests(tmp_path / "out"))


def test_a_put_that_fails_for_good_leaves_nothing_and_the_same_call_finishes(
    score_there: Score, storage: Storage
) -> None:
    storage.refuses = lambda asked: 503 if asked.method in ("PUT", "POST") and "part-2." in asked.path else None
    with pytest.raises(OutFailed) as failed:
        score_there("for-good")
    assert str(failed.value.filename).startswith(f"s3://{BUCKET}/for-good/day=0/part-2.parquet.00000-")
    assert not any(secret in str(failed.value) for secret in (KEY, SECRET))
    storage.refuses = lambda asked: None
    there = storage.contents("for-good")
    assert not any("part-2." in path or path in ("_SUCCESS", "_surprisal/manifest.json") for path in there)
    assert b"<Upload>" not in uploads(storage)
    again = score_there("for-good")
    assert again.rows == FILES * ROWS
    assert again.scored < FILES, "what was done stays"


def uploads(storage: Storage) -> bytes:
    """What the storage says of uploads that nobody completed or gave up."""
    scope = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    request = urllib.request.Request(
        f"http://127.0.0.1:{storage.port}/{BUCKET}?uploads", headers={"Authorization": scope}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.read()
    assert b"ListMultipartUploadsResult" in content
    return content


def test_killed_and_run_again_it_gives_the_same_bytes_and_no_secret_is_anywhere(
    score: Score, score_there: Score, models: Path, storage: Storage, tmp_path: Path
) -> None:
    score()
    given = ("score", models / NAME, storage.uri(f"{BUCKET}/in"), storage.uri(f"{BUCKET}/killed/"), "--workers", 1)
    command = [sys.executable, "-m", "surprisal", *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as killed:
        until(lambda: bool(results(storage, "killed")))
        killed.kill()
        said, _ = killed.communicate()
    kept = results(storage, "killed")
    done = surprisal(*given, "--json")
    assert done.returncode == 0, done.stderr
    assert results(storage, "killed") == without_keys(digests(tmp_path / "out"))
    assert kept.items() <= results(storage, "killed").items()
    texts = [content for path, content in storage.contents("killed").items() if path.endswith(".json")]
    everything = said + done.stdout + done.stderr + b"".join(texts).decode()
    assert not any(secret in everything for secret in (KEY, SECRET))


def test_a_damaged_object_fails_alone(score_there: Score, storage: Storage, source: Path) -> None:
    damaged = source / "day=1" / "part-1.parquet"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:2000] + bytes(3000) + whole[5000:])
    storage.put(source, "in")
    with pytest.raises(ShardsFailed, match=rf"1 of {FILES} shards .*day=1/part-1\.parquet: damaged") as failed:
        score_there("damaged")
    assert not any(secret in str(failed.value) for secret in (KEY, SECRET))
    assert len(results(storage, "damaged")) == FILES - 1


def test_what_cannot_be_reached_is_said_within_a_bounded_time(
    models: Path, storage: Storage, source: Path, tmp_path: Path
) -> None:
    def refused(asked: Asked) -> int | None:
        return 403 if "forbidden" in asked.path or "forbidden" in asked.query else None

    storage.refuses = refused
    out = f"{tmp_path}/out/"
    for given, told in (
        ((storage.uri("no-such-bucket/in"), out), "no-such-bucket"),
        ((source, storage.uri("no-such-bucket/out/")), "bucket does not exist"),
        ((storage.uri(f"{BUCKET}/forbidden/"), out), "ACCESS_DENIED"),
        ((storage.uri(f"{BUCKET}/in", port=1), out), "ould not connect to server"),
    ):
        began = time.monotonic()
        done = surprisal("score", models / NAME, *given, "--workers", 1)
        assert time.monotonic() - began < 20
        assert done.returncode in (1, 2), done.stderr
        assert told in done.stderr
        assert not any(secret in done.stderr for secret in (KEY, SECRET))
