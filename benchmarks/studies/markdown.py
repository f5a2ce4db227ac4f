"""A table as Markdown: legible in a terminal, and ready for a README."""

from collections.abc import Iterable, Sequence


def show(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; floats have three decimals, and what is None is left empty.

    Args:
        columns: Their names; the first is aligned left, the others right.
        rows: As many cells each.
    """
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)], *([_cell(cell) for cell in row] for row in rows)]
    print("\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
