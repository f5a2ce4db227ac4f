"""`--memory`, `--cache` and `--keep-cache`: tables that memory does not hold."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.data.read import Data
    from training.data.streamed import Streamed
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


def disk(cache: Path | None, keep: bool, table: "Data | Streamed", say: Callable[[str], None]) -> "Disk":
    """Where the rows of a table that is streamed are kept.

    Args:
        cache: `--cache`, the folder; by default the model's.
        keep: `--keep-cache`, whether they stay there.
        table: Which is trained on.
        say: Told where these options have no use.
    """
    from training.data.streamed import Streamed
    from training.table.cache import Disk

    said = [option for option, given in (("--cache", cache is not None), ("--keep-cache", keep)) if given]
    if said and not isinstance(table, Streamed):
        have = "has" if len(said) == 1 else "have"
        say(f"{' and '.join(said)} {have} no use here: the table is read whole")
    return Disk(cache, keep)
