"""How much memory requests may take, by the files in which Linux says how much there is."""

from pathlib import Path

import pytest

from service.wire.memory_limit import LEAST_BYTES, budget_bytes

MIB = 2**20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
    return file


def test_without_a_container_half_of_the_machine_is_shared_out(tmp_path: Path, meminfo: Path) -> None:
    assert budget_bytes(1, tmp_path, meminfo) == (4096 - 40 - 160) * MIB
    assert budget_bytes(4, tmp_path, meminfo) == (4096 - 40 - 4 * 160) * MIB // 4


def test_a_container_s_limit_is_what_there_is(tmp_path: Path, meminfo: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{2048 * MIB}\n")
    assert budget_bytes(2, tmp_path, meminfo) == int(0.8 * 2048 * MIB - (40 + 320) * MIB) // 2
    (tmp_path / "memory.max").write_text("max\n")
    assert budget_bytes(1, tmp_path, meminfo) == (4096 - 40 - 160) * MIB


def test_version_1_of_control_groups_is_read_too(tmp_path: Path, meminfo: Path) -> None:
    (tmp_path / "memory").mkdir()
    file = tmp_path / "memory" / "memory.limit_in_bytes"
    file.write_text(f"{1024 * MIB}\n")
    assert budget_bytes(1, tmp_path, meminfo) == int(0.8 * 1024 * MIB - 200 * MIB)
    file.write_text("9223372036854771712\n")
    assert budget_bytes(1, tmp_path, meminfo) == (4096 - 200) * MIB


def test_there_is_always_enough_for_a_body(tmp_path: Path, meminfo: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{128 * MIB}")
    assert budget_bytes(4, tmp_path, meminfo) == LEAST_BYTES


def test_what_linux_does_not_say_the_system_does(tmp_path: Path) -> None:
    assert budget_bytes(1, tmp_path, tmp_path / "nothing") > 0
