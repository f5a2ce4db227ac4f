"""Images: scratched rings are flagged, and the map is lightest where the scratch is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import images
from tests.conftest import FAST_ON_IMAGES


@pytest.mark.slow
def test_it_runs_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for few images of the size of the model that the tests share, so that its graphs are there."""
    monkeypatch.setattr(images, "SIDE", 8)
    monkeypatch.setattr(images, "GOOD", 500)
    monkeypatch.setitem(images.SMALL, "network", FAST_ON_IMAGES["network"])
    monkeypatch.setitem(images.SMALL, "fit", {"epochs": 20, "learning_rate": 5e-3})
    images.main(str(tmp_path / "rings"))
    _, good, scratched, _ = capsys.readouterr().out.splitlines()
    assert float(good.split("%")[0]) < 15
    assert float(scratched.split("%")[0]) > 60
    with Image.open(tmp_path / "rings" / "map.png") as sheet:
        assert sheet.size == (3 * 72 - 8, 5 * 72 - 8)
        surprising = np.asarray(sheet)[:64, 144:]
    assert surprising.max() == 255
    assert np.median(surprising) < 128
