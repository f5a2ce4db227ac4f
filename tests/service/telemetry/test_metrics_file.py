"""Counting never stops serving: a folder that is full, gone or never there costs counts, and no request."""

import contextlib
import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from service.telemetry import metrics_file, metrics_folder
from service.telemetry.metrics_file import START_BYTES, MetricsFile, SharedCounts
from tests.conftest import running, until
from tests.service.process.test_supervisor import score, total, workers_of
from tests.service.process.test_watchdog import answered

KEY = '["m", "m", {"label": "%s"}, "help"]'


@pytest.fixture(autouse=True)
def _none_stays_open() -> Iterator[None]:
    yield
    for file in list(MetricsFile.opened.values()):
        file.close()


def stored(path: Path) -> dict[str, float]:
    """What prometheus_client reads from a file."""
    return {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))}


@given(st.dictionaries(st.text(max_size=40), st.floats(allow_nan=False), max_size=30))
def test_the_file_is_one_of_prometheus_client(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("metrics") / "counter_1.db"
    file = MetricsFile(str(path))
    for key, value in values.items():
        file.write_value(key, value, 0.0)
    assert file.copy() is None
    assert stored(path) == values
    theirs = MmapedDict(str(path))
    assert {key: theirs.read_value(key)[0] for key in values} == values
    theirs.close()
    file.close()
    again = MetricsFile(str(path))
    assert {key: again.read_value(key)[0] for key in values} == values
    again.close()


def test_what_there_is_no_room_for_is_counted_on_and_copied_once_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counter_1.db"
    file = MetricsFile(str(path))
    file.write_value("first", 1.0, 0.0)
    assert file.copy() is None
    assert path.stat().st_blocks * 512 >= START_BYTES, "reserved, and not only so long"
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_room)
        for number in range(3000):
            file.write_value(KEY % number, float(number), 0.0)
        file.write_value("first", 2.0, 0.0)
        fault = file.copy()
        assert fault is not None
        assert fault.errno == errno.ENOSPC
        shown = stored(path)
        assert shown["first"] == 2.0
        assert 1 < len(shown) < 3001
        assert shown.items() <= {"first": 2.0, **{KEY % number: float(number) for number in range(3000)}}.items()
    assert file.copy() is None
    assert len(stored(path)) == 3001


def test_where_nothing_can_be_made_one_process_alone_shows_what_it_counts(tmp_path: Path) -> None:
    name = str(tmp_path / "missing" / "counter_1.db")
    MetricsFile(name).write_value('["m", "m_total", {}, "help"]', 3.0, 0.0)
    assert isinstance(metrics_file.copy_all(), FileNotFoundError)
    assert samples(SharedCounts(tmp_path / "missing", alone=True)) == {"m_total": 3.0}
    assert samples(SharedCounts(tmp_path / "missing", alone=False)) == {}


def test_a_file_that_is_only_just_made_or_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = MetricsFile(str(tmp_path / "counter_1.db"))
    file.write_value('["m", "m_total", {}, "help"]', 3.0, 0.0)
    file.write_value('["n", "n_total", {}, "help"]', 3.0, 0.0)
    content = file.content()
    for length in range(len(content)):
        (tmp_path / "counter_2.db").write_bytes(content[:length])
        assert samples(SharedCounts(tmp_path, alone=False)).keys() <= {"m_total", "n_total"}


def test_what_cannot_be_read_for_a_while_is_shown_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricsFile(str(tmp_path / "counter_1.db"))
    file.write_value('["m", "m_total", {}, "help"]', 3.0, 0.0)
    file.copy()
    counts = SharedCounts(tmp_path, alone=False)
    assert samples(counts) == {"m_total": 3.0}
    for owner, name in ((os, "scandir"), (Path, "read_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, no_file)
            assert samples(counts) == {"m_total": 3.0}


def samples(counts: SharedCounts) -> dict[str, float]:
    """Each sample's value."""
    return {sample.name: sample.value for metric in counts.collect() for sample in metric.samples}


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_file(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "none", folder], check=False).returncode:
        pytest.skip("only root may mount the small file system that is filled here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing more can be written."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_is_full_at_the_start_costs_no_request(models: Path, tmp_path: Path, workers: int) -> None:
    with small_disk(tmp_path / "small") as folder:
        filling = fill(folder)
        with running(models, workers, environment={"SURPRISAL_METRICS_FOLDER": str(folder)}) as (process, url):
            serves_without(url, workers)
            filling.unlink()
            until(lambda: total(url, "metrics_unshared") == 0)
            until(lambda: total(url, "records_total") == 60)
            process.terminate()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0
    assert errors.count("not all that this worker counts can be shared") == workers
    assert errors.count("all that this worker counts is shared again") == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_cannot_be_made_costs_no_request(models: Path, workers: int) -> None:
    with running(models, workers, environment={"SURPRISAL_METRICS_FOLDER": "/dev/null/metrics"}) as (process, url):
        serves_without(url, workers)
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
    assert errors.count("workers cannot share their counts: /dev/null/metrics") == workers + 1, "at each start of one"
    assert errors.count("not all that this worker counts can be shared") == workers


def serves_without(url: str, workers: int) -> None:
    """Everything is answered, and said to be incomplete."""
    until(lambda: total(url, "workers") == workers)
    assert score(url, 20) == [200] * 20
    until(lambda: total(url, "metrics_unshared") == 1)
    assert httpx.get(f"{url}/v2/models/stats").status_code == 200
    assert total(url, "records_total") == (60 if workers == 1 else 0), "or it would depend on who is asked"
    assert total(url, "worker_restarts_total") == 0


async def test_without_any_temporary_folder_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", no_room)
    with metrics_folder.opened(None) as folder:
        assert folder.path == metrics_folder.NOWHERE
        folder.forget(1)
        monkeypatch.undo()
        folder.make()
        assert folder.path.is_dir()
        made = folder.path
    assert not made.exists()
    assert "a temporary folder: No space left on device" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_fills_later_costs_neither_requests_nor_workers(
    models: Path, tmp_path: Path, workers: int
) -> None:
    with (
        small_disk(tmp_path / "small") as folder,
        running(models, workers, environment={"SURPRISAL_METRICS_FOLDER": str(folder)}) as (process, url),
    ):
        until(lambda: total(url, "workers") == workers)
        filling = fill(folder)
        assert score(url, 10) == [200] * 10
        until(lambda: total(url, "records_total") == 30)
        assert total(url, "metrics_unshared") == 0, "space was reserved before the first request"
        os.kill(workers_of(process)[0], signal.SIGKILL)
        until(lambda: answered(url, "workers") == workers - 1 or workers == 1)
        until(lambda: answered(url, "workers") == workers)
        until(lambda: total(url, "metrics_unshared") == 1)
        assert score(url, 10) == [200] * 10
        assert total(url, "worker_restarts_total") == 1
        filling.unlink()
        until(lambda: total(url, "metrics_unshared") == 0)
        until(lambda: total(url, "records_total") == 60)
        process.terminate()
        assert process.wait(timeout=60) == 0
