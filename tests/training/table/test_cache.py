"""Training rows on disk: the records of memory, in memory of the system's, and gone afterwards."""

import fcntl
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from bundle.record.schema import RecordSchema, TableSchema
from tests.training.data.test_streamed import FEW, LABELLED, every_kind, exact, written
from training.data import schema
from training.data.streamed import Streamed, stream
from training.errors import ConfigInvalid
from training.network.order import Blocks
from training.table import cache
from training.table.batch import Preprocess

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Streamed, RecordSchema]:
    streamed = stream(written(tmp_path_factory.mktemp("data") / "parts", every_kind(), "parquet"), LABELLED)
    return streamed, exact(streamed, LABELLED)


def test_records_are_those_of_memory_in_another_order(tmp_path: Path, given: tuple[Streamed, RecordSchema]) -> None:
    streamed, record = given
    assert isinstance(record, TableSchema)
    tensors = schema.tensors(record, streamed.sample, streamed.parts.train)
    whole = Preprocess(record).standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    said: list[str] = []
    with cache.cached(tmp_path / "new", record, streamed, LABELLED, say=said.append) as cached:
        assert cached.order == Blocks(streamed.train)
        places = torch.from_numpy(cached.order.dealt(0, streamed.train, LABELLED.seed))
        for ours, theirs in zip(cached.records.take(places), whole, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        (line,) = said
        assert f"{streamed.train:,} standardised rows are written to {tmp_path}" in line
        maps = Path("/proc/self/maps").read_text().splitlines()
        mapped = {Path(each.split()[-1]).name for each in maps if str(tmp_path) in each}
        assert mapped >= {"numeric", "categorical", "boolean"}
    assert list((tmp_path / "new").iterdir()) == []


def test_it_is_gone_where_the_training_fails_and_stays_where_it_is_to_be_kept(
    tmp_path: Path, given: tuple[Streamed, RecordSchema], monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed, record = given
    with pytest.raises(KeyboardInterrupt), cache.cached(tmp_path, record, streamed, LABELLED):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with cache.cached(tmp_path, record, streamed, LABELLED, keep=True) as cached:
        first = [part.clone() for part in cached.records]
    (place,) = tmp_path.iterdir()
    monkeypatch.setattr(cache, "_fill", None)  # Nothing is written again.
    said: list[str] = []
    with cache.cached(tmp_path, record, streamed, LABELLED, keep=True, say=said.append) as cached:
        assert all(torch.equal(one, other) for one, other in zip(first, cached.records, strict=True))
    assert said == [f"the cache of standardised rows in {place} is taken up"]


def test_a_cache_of_other_data_that_is_kept_is_left_alone(tmp_path: Path, given: tuple[Streamed, RecordSchema]) -> None:
    streamed, record = given
    with cache.cached(tmp_path, record, streamed, LABELLED, keep=True):
        pass
    other = LABELLED.model_copy(update={"seed": 1})
    with cache.cached(tmp_path, record, streamed, other):
        assert len(list(tmp_path.iterdir())) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_has_left_is_removed_and_what_another_one_uses_is_not(
    tmp_path: Path, given: tuple[Streamed, RecordSchema]
) -> None:
    streamed, record = given
    killed, used = tmp_path / ".cache-0123456789abcdef", tmp_path / ".cache-fedcba9876543210"
    killed.mkdir()
    used.mkdir()
    for place in (killed, used):
        (place / "lock").touch()
        (place / "numeric").write_bytes(bytes(2**20))
    said: list[str] = []
    with (used / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with cache.cached(tmp_path, record, streamed, LABELLED, say=said.append):
            assert not killed.exists()
            with (
                pytest.raises(ConfigInvalid, match="another run of the same data and configuration uses this cache"),
                cache.cached(tmp_path, record, streamed, LABELLED),
            ):
                pass
    assert said[0] == f"removed 1.0 MiB that a run which was killed has left in {killed}"
    assert [place.name for place in tmp_path.iterdir()] == [used.name]


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(
    tmp_path: Path, given: tuple[Streamed, RecordSchema], monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed, record = given
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**20))
    reason = r"takes \d+\.\d KiB, and 1\.0 MiB of the disk are free; --cache DIR puts it elsewhere"
    with pytest.raises(ConfigInvalid, match=reason), cache.cached(tmp_path, record, streamed, LABELLED):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_filled_by_others_meanwhile_is_an_error_and_no_end_of_the_process(
    tmp_path: Path, given: tuple[Streamed, RecordSchema], monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed, record = given

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    reason = r"/numeric: the disk is full, .* --cache DIR puts the cache elsewhere"
    for keep in (False, True):
        with pytest.raises(ConfigInvalid, match=reason), cache.cached(tmp_path, record, streamed, LABELLED, keep=keep):
            pass
        assert list(tmp_path.iterdir()) == []


def test_folders_of_others_stay(tmp_path: Path, given: tuple[Streamed, RecordSchema]) -> None:
    streamed, record = given
    for name in (".cache-backup", ".cache-0123456789abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").touch()
    (tmp_path / ".cache-file").touch()
    (tmp_path / ".cache-fedcba9876543210").touch()
    (tmp_path / ".cache-backup" / "lock").touch()
    before = sorted(tmp_path.rglob("*"))
    with cache.cached(tmp_path, record, streamed, LABELLED):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_kept_cache_that_has_lost_bytes_is_made_anew(tmp_path: Path, given: tuple[Streamed, RecordSchema]) -> None:
    streamed, record = given
    with cache.cached(tmp_path, record, streamed, LABELLED, keep=True) as cached:
        first = [part.clone() for part in cached.records]
    (place,) = tmp_path.iterdir()
    content = (place / "numeric").read_bytes()
    (place / "numeric").write_bytes(content[:-800])
    said: list[str] = []
    with cache.cached(tmp_path, record, streamed, LABELLED, keep=True, say=said.append) as cached:
        assert all(torch.equal(one, other) for one, other in zip(first, cached.records, strict=True))
    assert said[0] == f"the cache of standardised rows in {place} is damaged, and made anew"
    assert (place / "numeric").read_bytes() == content


def test_a_kept_cache_of_another_split_is_left_alone(tmp_path: Path) -> None:
    texts = pa.table({name: [name, "x"] * 500 for name in "uvw"})
    said: list[str] = []
    for name in ("a.parquet", "b.parquet"):
        pyarrow.parquet.write_table(texts, tmp_path / name)
        streamed = stream(tmp_path / name, FEW)
        # Texts alone: the statistics are nearly sure to be the same.
        record = exact(stream(tmp_path / "a.parquet", FEW), FEW)
        with cache.cached(tmp_path / "cache", record, streamed, FEW, keep=True, say=said.append):
            pass
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert not [line for line in said if "taken up" in line]
