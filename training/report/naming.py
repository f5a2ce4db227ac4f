"""How a record is called: by its file, where it is an image of one, else by its row."""

from bundle.record import image_folder
from training.data.read import Data, Rows
from training.report import wording


def names(data: Data, rows: Rows) -> tuple[str, ...]:
    """A name for each of some rows.

    Args:
        data: The table that they are of.
        rows: (n,) their places in it, from 0.

    Returns:
        The path of an image's file below its folder, as the page may show it, or `row 12`, the first being 1.
    """
    if image_folder.FILE in data.table.column_names:
        files = data.table[image_folder.FILE].take(rows).to_pylist()
        return tuple(wording.shown(str(file)) for file in files)
    return tuple(f"row {row + 1:,}" for row in rows.tolist())
