"""The container's quota, not the host's count."""

import os
from pathlib import Path

import pytest

from service.engine import cpus


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(("content", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)])
def test_cgroup_version_2(tmp_path: Path, content: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpus.available(tmp_path) == expected


def test_cgroup_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpus.available(tmp_path) == 3


def test_no_quota_means_the_affinity(tmp_path: Path) -> None:
    assert cpus.available(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cpus.available(tmp_path) == 8
