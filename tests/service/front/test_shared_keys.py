"""One process reads the keys; all others have what it read, whatever becomes of the file."""

import functools
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front import shared_keys
from service.front.key import Key, Role
from service.front.shared_keys import SharedKeys
from tests.conftest import running, until
from tests.service.process.test_supervisor import workers_of

OLD, NEW = "the-old-key-of-score", "the-new-key-of-score"


def replaced(process: subprocess.Popen[str], victim: int) -> bool:
    return victim not in workers_of(process) and len(workers_of(process)) == 2


@pytest.fixture
def file() -> Iterator[int]:
    """One in which nothing was told yet."""
    file = shared_keys.new_file()
    yield file
    os.close(file)


rings = st.lists(
    st.builds(Key, st.binary(min_size=32, max_size=32), st.sampled_from(Role)), min_size=1, max_size=40
).map(tuple)


@given(st.lists(rings, min_size=1, max_size=5))
def test_who_follows_has_what_was_told_last(told: list[tuple[Key, ...]]) -> None:
    file = shared_keys.new_file()
    supervisor, worker = SharedKeys(file), SharedKeys(file)
    for ring in told:
        supervisor.tell(ring)
        assert worker.follow() == ring
        assert worker.follow() is None
    assert SharedKeys(file).first() == told[-1]
    os.close(file)


def test_what_is_half_told_is_not_followed(file: int) -> None:
    supervisor, worker = SharedKeys(file), SharedKeys(file)
    supervisor.tell([Key(bytes(32), Role.SCORE)])
    assert worker.follow() is not None
    supervisor.tell([Key(bytes(32), Role.ADMIN), Key(b"1" * 32, Role.SCORE)])
    end = os.fstat(file).st_size
    whole = os.pread(file, end, 0)
    os.ftruncate(file, end - 1)
    assert worker.follow() is None
    os.pwrite(file, whole, 0)
    assert worker.follow() == (Key(bytes(32), Role.ADMIN), Key(b"1" * 32, Role.SCORE))


def test_a_worker_that_was_told_nothing_does_not_start_open(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_keys, "_PAUSE_SECONDS", 0.0)
    with pytest.raises(TimeoutError, match="no keys"):
        SharedKeys(file).first()


def test_only_digests_are_shared(file: int) -> None:
    SharedKeys(file).tell([Key(hashlib.sha256(OLD.encode()).digest(), Role.SCORE)])
    assert OLD.encode() not in os.pread(file, 1000, 0)


def test_all_workers_change_keys_together_and_a_new_one_knows_them_without_the_file(
    models: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"score {OLD}\n")
    with running(models, workers=2, environment={"SURPRISAL_KEYS_FILE": str(keys)}) as (process, url):

        def statuses(key: str) -> set[int]:
            headers = {"Authorization": f"Bearer {key}"}
            return {httpx.get(f"{url}/models", headers=headers, timeout=30).status_code for _ in range(16)}

        until(lambda: statuses(OLD) == {200})
        (tmp_path / "new").write_text(f"score {NEW}\n")
        (tmp_path / "new").rename(keys)
        until(lambda: statuses(NEW) == {200})
        assert statuses(OLD) == {401}
        keys.write_text("nobody can read this\n")
        for victim in workers_of(process):
            os.kill(victim, 9)
            until(functools.partial(replaced, process, victim))
        until(lambda: answers(url))
        assert (statuses(NEW), statuses(OLD)) == ({200}, {401})
        keys.unlink()
        os.mkfifo(keys)
        assert (statuses(NEW), statuses(OLD)) == ({200}, {401})
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
    assert errors.count("a role (score or admin) and a key are expected") == 1
    assert errors.count("1 keys are known now") == 1


def answers(url: str) -> bool:
    """Whether somebody answers."""
    try:
        return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False
