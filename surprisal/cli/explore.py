"""`surprisal explore`: what a model of images sees, imagines and finds strange, as a page to look at."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail

_SUFFIX = ".html"


def explore(
    bundle: Annotated[Path, typer.Argument(help="models/NAME (the served version) or models/NAME/VERSION; of images.")],
    data: Annotated[Path, typer.Argument(help="npz file (X) or folder of images, as training takes them.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    other: Annotated[Path | None, typer.Option(help="Other images, to compare the scores with.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Column that says what is normal; of a folder, its folders.")
    ] = None,
    normal: Annotated[
        str | None, typer.Option(help="The label's value in normal images; without --other the rest are compared.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images of each set to score; of more, drawn at random.")] = 2000,
) -> None:
    """Show a model of images and data seen through it, in one HTML file: reconstructions, samples, traversals, maps."""
    if out.suffix != _SUFFIX:
        fail(f"{out}: a file that ends in {_SUFFIX} is expected", CALL_WRONG)
    if out.is_dir():
        fail(f"{out}: is a folder; a file is to be written", CALL_WRONG)
    if not out.parent.is_dir():
        fail(f"{out}: there is no folder {out.parent}", CALL_WRONG)
    if label is not None and normal is None:
        fail(f"which images are normal: --label {label} takes --normal VALUE", CALL_WRONG)
    try:
        from training.config import DataConfig
        from training.errors import ConfigInvalid, TrainingError
        from training.report import album, exploration, findings
    except ImportError as error:
        fail(
            f"exploring needs more than is installed ({error.name}): pip install 'surprisal-vae[training]'", WORK_FAILED
        )
    from bundle.folder import durable_file, store

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    labels = None if normal is None else DataConfig(label=label, normal=normal)
    try:
        loaded = store.load(*store.resolve(bundle))
        found = exploration.explore(loaded, data, other, images, say=console.print, labels=labels)
    except ConfigInvalid as error:
        fail(error, CALL_WRONG)
    except TrainingError as error:
        fail(error, WORK_FAILED)
    for sentence in findings.sentences(found):
        console.print(sentence)
    durable_file.replace(out, album.write(found))
    console.print(f"wrote {out}")
