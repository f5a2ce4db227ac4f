"""Training in Python: what `surprisal train` does, without its words."""

from os import PathLike
from pathlib import Path
from typing import Any, Literal

from surprisal.model import Model


def train(
    data: str | PathLike[str],
    out: str | PathLike[str] = "models",
    *,
    name: str | None = None,
    config: dict[str, Any] | str | PathLike[str] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
) -> Model:
    """Train a model on records of normal behaviour and write it as a bundle.

    Args:
        data: CSV, Parquet, NDJSON or npz file, or a folder of images.
        out: The models folder.
        name: The model's name; by default the file's.
        config: The configuration, as a TOML file or as the content of one; by default all defaults.
        device: Where to train; `auto` takes a GPU if there is one.
        resume: Take up the checkpoint that an interrupted run of the same data and configuration left.

    Returns:
        The model, opened.

    Raises:
        ImportError: What training needs is not installed.
        training.errors.TrainingError: The data or the configuration cannot be trained with.
        OSError: The bundle cannot be written.
    """
    from training import pipeline
    from training.config import build, read_toml
    from training.data.read import read

    source = Path(data)
    content = read_toml(Path(config)) if isinstance(config, str | PathLike) else dict(config or {})
    settings = build(content, source=str(config) if isinstance(config, str | PathLike) else "config")
    table = read(source, settings.data.reading, settings.kinds)
    chosen = name or source.name.split(".")[0].lower()
    return Model(pipeline.train(table, Path(out), chosen, settings, device=device, resume=resume).folder)
