"""A release: trained, tried out, compared, promoted and rolled back, on a service that answers meanwhile."""

import json
import shutil
import time
from pathlib import Path

import pytest

from examples import release
from tests.conftest import NAME, running


@pytest.mark.slow
def test_it_runs_as_it_stands(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(models / NAME, tmp_path / "models" / NAME)
    with running(tmp_path / "models") as (_, url):
        release.main(str(tmp_path / "models" / NAME), url)
    said = capfd.readouterr().out
    order = (
        f"{NAME} version 1 is served\n",
        f"{NAME} version 2 scores beside version 1\n",
        "version 1: ",
        "version 2: ",
        f"{NAME} version 2 is served in place of version 1\n",
        f"{url} answers by version 2\n",
        f"{NAME} version 1 is served again\n",
        f"{url} answers by version 1 again\n",
    )
    places = [said.index(line) for line in order]
    assert places == sorted(places)
    assert "of 4000 flagged" in said.partition("version 1: ")[2].splitlines()[0]
    first, second = (
        json.loads((tmp_path / "models" / NAME / version / "manifest.json").read_text()) for version in ("1", "2")
    )
    assert first["training"]["config"] == second["training"]["config"]
    assert first["training"]["data_sha256"] != second["training"]["data_sha256"]


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ((4000, 100), (4000, 110), True),
        ((4000, 100), (2000, 50), True),
        ((4000, 100), (4000, 220), False),
        ((4000, 100), (4000, 40), False),
        ((4000, 0), (4000, 0), True),
        ((4000, 100), (0, 0), False),
    ],
)
def test_a_version_that_flags_far_more_or_fewer_is_not_promoted(
    old: tuple[int, int], new: tuple[int, int], alike: bool
) -> None:
    assert release.alike(release.Seen(*old), release.Seen(*new)) is alike


def test_what_is_never_served_is_not_waited_for_for_ever(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(TimeoutError, match=r"serving\.json"):
        release.wait_for(server, NAME, lambda said: said["version"] == "7")
