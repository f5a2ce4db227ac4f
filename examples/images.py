"""Images: learn how a good part looks, and see on a map where a bad one is wrong.

Simulates small grey images of a ring, trains on good ones, scores scratched ones, without a service:

    pip install -c constraints.txt -e '.[training]'    # or run scripts/demo once, which does this in .venv
    python examples/images.py demo/rings

It writes what it makes into the folder that you name. Git ignores the folder `demo`. Look at `demo/rings/map.png`.
"""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

import surprisal

SIDE, GOOD = 16, 1500
"""Pixels; images of good rings to learn from."""
SMALL: dict[str, Any] = {
    "network": {"channels": [8, 16], "latent_size": 8},
    "fit": {"epochs": 30, "learning_rate": 3e-3},
    "scoring": {"false_alarm_rate": 0.05},
}
"""A small network, so that you do not wait; without `config` you get the defaults, which are larger."""

Images = npt.NDArray[np.uint8]


def simulate(count: int, seed: int, *, scratched: bool = False) -> Images:
    """Photographs of rings that lie a little off the centre, under light that varies.

    Args:
        count: How many.
        seed: Same seed, same images.
        scratched: Whether a dark line crosses each ring.

    Returns:
        (count, SIDE, SIDE) uint8, grey.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for image in images:
        off_y, off_x = random.uniform(-1, 1, 2)
        distance = np.hypot(y - off_y, x - off_x)
        ring = np.exp(-(((distance - SIDE / 3.2) / (SIDE / 10)) ** 2))
        levels = 40 + random.uniform(130, 190) * ring + random.normal(0, 4, ring.shape)
        if scratched:
            angle = random.uniform(0, 2 * np.pi)
            across = np.abs(np.cos(angle) * (y - off_y) - np.sin(angle) * (x - off_x)) < 0.8
            levels[across & (np.sin(angle) * y + np.cos(angle) * x > 0)] = 45
        image[:] = levels.clip(0, 255)
    return images


def table(images: Images) -> pa.Table:
    """Images as records: each a PNG file, as it would come from a camera or a folder."""
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    return pa.table({"image": pa.array(files, pa.binary())})


def drawn(images: Images, scores: list[dict[str, Any]], zoom: int = 8) -> Image.Image:
    """A line an image: what was seen, what was expected, and how surprising each pixel is, the lighter, the more.

    Args:
        images: (n, SIDE, SIDE), grey.
        scores: Theirs, explained.
        zoom: How many pixels wide each becomes.
    """
    size, step = SIDE * zoom, SIDE * zoom + zoom
    sheet = Image.new("L", (3 * step - zoom, len(images) * step - zoom), 255)
    for line, (image, score) in enumerate(zip(images, scores, strict=True)):
        said = [base64.b64decode(score[f"explanation_1_{name}"]) for name in ("expected", "surprisal_map")]
        for place, part in enumerate([Image.fromarray(image), *(Image.open(io.BytesIO(file)) for file in said)]):
            sheet.paste(part.resize((size, size), Image.Resampling.NEAREST), (place * step, line * step))
    return sheet


def main(folder: str = "demo/rings") -> None:
    """Train on good rings, score good and scratched ones, and draw where some differ.

    Args:
        folder: Where data, model and map are written.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "rings.npz", X=simulate(GOOD, seed=1))
    print("training, a minute or less")
    model = surprisal.train(out / "rings.npz", out / "models", config=SMALL)

    good, bad = simulate(200, seed=2), simulate(200, seed=3, scratched=True)
    for kind, images in (("good", good), ("scratched", bad)):
        flagged = np.asarray(model.score(table(images))["is_anomaly"]).mean()
        print(f"{flagged:6.1%} of {len(images)} {kind} rings are flagged")

    shown = np.concatenate([bad[:4], good[:1]])
    drawn(shown, model.score(table(shown), explain=True).to_pylist()).save(out / "map.png")
    print(f"wrote {out / 'map.png'}: each ring, what was expected of it, and where it differs")


if __name__ == "__main__":
    main(*sys.argv[1:])
