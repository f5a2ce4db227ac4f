"""`--memory`, `--cache` and `--keep-cache`: tables that memory does not hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.table.cache import Disk

MemoryOption = Annotated[
    str | None,
    typer.Option(help="Most memory, as 8GiB: rows of larger tables are streamed. By default half of what there is."),
]
CacheOption = Annotated[
    Path | None, typer.Option(help="Folder for the rows of a table that is streamed; by default the model's.")
]
KeepCacheOption = Annotated[
    bool, typer.Option("--keep-cache", help="Leave these rows there, for another run of the same call.")
]


def disk(cache: Path | None, keep: bool) -> "Disk":
    """Where the rows of a table that is streamed are kept.

    Args:
        cache: The folder; by default the model's.
        keep: Whether they stay there.
    """
    from training.table.cache import Disk

    return Disk(cache, keep)
