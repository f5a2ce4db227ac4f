"""A release: trained, tried out, compared, promoted and rolled back, on a service that answers meanwhile."""

import json
import shutil
import time
from pathlib import Path

import pytest

from examples import release
from tests.conftest import NAME, free_port, running

KEY = "a-key-of-this-test-alone"


@pytest.mark.slow
def test_it_runs_as_it_stands(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models / NAME, tmp_path / "models" / NAME)
    operators = f"http://127.0.0.1:{(port := free_port())}"
    locked = {"SURPRISAL_KEYS": f"score {KEY}", "SURPRISAL_OPS_PORT": str(port)}
    with running(tmp_path / "models", environment=locked) as (_, url):
        monkeypatch.setenv("KEY", KEY)
        release.main(str(tmp_path / "models" / NAME), url, operators)
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


def test_what_it_could_not_ask_later_is_said_before_anything_is_changed(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models / NAME, tmp_path / "models" / NAME)
    before = sorted((tmp_path / "models").rglob("*"))
    locked = {"SURPRISAL_KEYS": f"score {KEY}", "SURPRISAL_OPS_PORT": str(free_port())}
    with running(tmp_path / "models", environment=locked) as (_, url):
        for key, said in ((None, "401.* KEY"), ("nobody-knows-this-one", "401.* KEY"), (KEY, "404.* third")):
            if key is not None:
                monkeypatch.setenv("KEY", key)
            with pytest.raises(SystemExit, match=said):
                release.main(str(tmp_path / "models" / NAME), url)
    with pytest.raises(SystemExit, match="refused"):
        release.main(str(tmp_path / "models" / NAME), url)
    assert sorted((tmp_path / "models").rglob("*")) == before


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
        release.wait_for(release.Service(server, server), NAME, lambda said: said["version"] == "7")
