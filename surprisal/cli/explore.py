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
    images: Annotated[int, typer.Option(min=1, help="Images of each file to score; of more, drawn at random.")] = 2000,
) -> None:
    """Show a model of images and data seen through it, in one HTML file: reconstructions, samples, traversals, maps."""
    if out.suffix != _SUFFIX:
        fail(f"{out}: a file that ends in {_SUFFIX} is expected", CALL_WRONG)
    if out.is_dir():
        fail(f"{out}: is a folder; a file is to be written", CALL_WRONG)
    if not out.parent.is_dir():
        fail(f"{out}: there is no folder {out.parent}", CALL_WRONG)
    try:
        from training.errors import ConfigInvalid, TrainingError
        from training.report import album, exploration
    except ImportError as error:
        fail(
            f"exploring needs more than is installed ({error.name}): pip install 'surprisal-vae[training]'", WORK_FAILED
        )
    from bundle.folder import durable_file, store

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        found = exploration.explore(store.load(*store.resolve(bundle)), data, other, images, say=console.print)
    except ConfigInvalid as error:
        fail(error, CALL_WRONG)
    except TrainingError as error:
        fail(error, WORK_FAILED)
    durable_file.replace(out, album.write(found))
    console.print(f"wrote {out}")
