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
    memory: int | str | None = None,
    cache: str | PathLike[str] | None = None,
    keep_cache: bool = False,
) -> Model:
    """Train a model on records of normal behaviour and write it as a bundle.

    Args:
        data: CSV, Parquet, NDJSON, Arrow or npz file, a folder or pattern of such files, or a folder of images.
        out: The models folder.
        name: The model's name; by default the file's.
        config: The configuration, as a TOML file or as the content of one; by default all defaults.
        device: Where to train; `auto` takes a GPU if there is one.
        resume: Take up the checkpoint that an interrupted run of the same data and configuration left.
        memory: Most bytes that it may take, or a text as `8GiB`; by default half of what there is. The rows of a table
            that takes more are streamed from disk.
        cache: Folder for these rows; by default the model's.
        keep_cache: Whether they are left there, for another run of the same call.

    Returns:
        The model, opened.

    Raises:
        ImportError: What training needs is not installed.
        training.errors.TrainingError: The data or the configuration cannot be trained with.
        OSError: The bundle cannot be written.
    """
    from training import pipeline
    from training.config import build, read_toml
    from training.data.budget import read_or_stream
    from training.table.cache import Disk

    source = Path(data)
    content = read_toml(Path(config)) if isinstance(config, str | PathLike) else dict(config or {})
    settings = build(content, source=str(config) if isinstance(config, str | PathLike) else "config")
    table = read_or_stream(source, settings, None if memory is None else str(memory))
    chosen = name or source.name.split(".")[0].lower()
    disk = Disk(None if cache is None else Path(cache), keep_cache)
    return Model(pipeline.train(table, Path(out), chosen, settings, device=device, resume=resume, disk=disk).folder)
