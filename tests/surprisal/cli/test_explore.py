"""`surprisal explore`: what it writes, and what it refuses before any work."""

import re
from pathlib import Path

import numpy as np
import pytest

from bundle.contents.scores import IMAGE_SCORES
from tests.conftest import IMAGES, NAME, simulate_images
from tests.surprisal.cli.command import surprisal


def test_a_page_is_written_and_said(image_models: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "usual.npz", X=simulate_images(60, seed=5))
    np.savez(tmp_path / "strange.npz", X=simulate_images(40, seed=6, strange=True))
    out = tmp_path / "scans.html"
    out.write_text("an older page")
    files = (tmp_path / "usual.npz", "--other", tmp_path / "strange.npz")
    result = surprisal("explore", image_models / IMAGES, *files, "--out", out, "--images", 50)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[:2] == ["scoring 50 of 60 images of usual.npz", "scoring 40 images of strange.npz"]
    usual, strange, aurocs, wrote = lines[2:]
    content = out.read_text()
    for said, images in ((usual, "usual.npz: 50 of 60 images"), (strange, "strange.npz: 40 images")):
        assert re.fullmatch(rf"{images}, \d+(\.\d)?% flagged at a false-alarm rate of \d+%", said)
        assert said in content
    names = [score.name for score in IMAGE_SCORES]
    pairs = dict(re.findall(r"(\w+) ([01]\.\d{3})", aurocs))
    assert list(pairs) == names
    assert aurocs.startswith("AUROC against strange.npz, where 0.5 is chance: ")
    for name in ("elbo", "combined"):
        assert f"AUROC {pairs[name]}" in content
    assert float(pairs["combined"]) > 0.9
    assert wrote == f"wrote {out}"
    assert content.startswith("<!doctype html>")
    assert "AUROC" in content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans.html", "strange.npz", "usual.npz"]


def test_labelled_strangers_are_compared_with_the_others(image_models: Path, tmp_path: Path) -> None:
    images = np.concatenate([simulate_images(20, seed=5), simulate_images(7, seed=6, strange=True)])
    np.savez(tmp_path / "later.npz", X=images, y=[0] * 20 + [1] * 7)
    out = tmp_path / "scans.html"
    given = ("--label", "y", "--normal", "0", "--out", out)
    result = surprisal("explore", image_models / IMAGES, tmp_path / "later.npz", *given)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[:2] == ["scoring 20 images of later.npz", "scoring 7 images of later.npz, not 0"]
    assert lines[3].startswith("later.npz, not 0: 7 images, ")
    assert lines[4].startswith("AUROC against later.npz, not 0, where 0.5 is chance: combined ")
    assert lines[5:] == [f"wrote {out}"]
    assert "later.npz, not 0, the strangest 7 of 7" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{payments}", "{usual}", "--out", "{tmp}/a.html"), 2, "transactions/1/report.html"),
        (("{scans}", "{usual}", "--out", "{tmp}/a.txt"), 2, "a.txt: a file that ends in .html"),
        (("{scans}", "{usual}", "--out", "{tmp}/none/a.html"), 2, "there is no folder"),
        (("{scans}", "{usual}", "--out", "{tmp}/folder.html"), 2, "is a folder"),
        (("{scans}", "{tmp}/none.npz", "--out", "{tmp}/a.html"), 2, "no such file"),
        (("{scans}", "{usual}", "--other", "{large}", "--out", "{tmp}/a.html"), 1, "9 wide and 9 high, grey; those"),
        (("{scans}", "{usual}", "--out", "{tmp}/a.html", "--images", "0"), 2, "--images"),
        (("{tmp}/none", "{usual}", "--out", "{tmp}/a.html"), 2, "no bundle"),
        (("{scans}", "{usual}", "--out", "{tmp}/a.html", "--label", "y"), 2, "--label y takes --normal VALUE"),
        (("{scans}", "{usual}", "--out", "{tmp}/a.html", "--normal", "good"), 2, "takes a label column as well"),
    ],
)
def test_what_goes_wrong_is_one_paragraph_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: str, image_models: Path, models: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "usual.npz", X=simulate_images(5, seed=5))
    np.savez(tmp_path / "large.npz", X=np.zeros((5, 9, 9), np.uint8))
    (tmp_path / "folder.html").mkdir()
    places = {"payments": models / NAME, "scans": image_models / IMAGES, "tmp": tmp_path}
    places |= {name: tmp_path / f"{name}.npz" for name in ("usual", "large")}
    result = surprisal("explore", *(argument.format(**places) for argument in arguments))
    assert result.returncode == code, result.stderr
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert "scoring" not in result.stderr, "what is wrong is said before any work"
    assert not (tmp_path / "a.html").exists()
