"""What a person says of a file instead of letting it be looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

USUAL_MISSING = (
    "",
    "NA",
    "N/A",
    "n/a",
    "<NA>",
    "#N/A",
    "#NA",
    "NaN",
    "nan",
    "NAN",
    "null",
    "NULL",
    "Null",
    "None",
    "none",
    "NONE",
    "nil",
    "\\N",
    "?",
    "-",
    "--",
    ".",
)
"""How programs and people write a value that is not there."""

Decimal = Literal[".", ","]


@dataclass(frozen=True)
class Options:
    """How to read a file; what is None is found by looking.

    Args:
        delimiter: Between the cells of a line.
        decimal: The decimal mark of numbers that are text.
        encoding: Of text, as Python names it.
        header: Lines down to the names of the columns, these included; 0 where there are none.
        missing_values: Texts that mean a missing value.
        date_format: Of timestamps that are text, as `strptime` takes it.
    """

    delimiter: str | None = None
    decimal: Decimal | None = None
    encoding: str | None = None
    header: int | None = None
    missing_values: tuple[str, ...] | None = None
    date_format: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Texts that mean a missing value; an empty cell always does."""
        return USUAL_MISSING if self.missing_values is None else tuple(dict.fromkeys(("", *self.missing_values)))

    @classmethod
    def kept(cls, config: Mapping[str, Any]) -> "Options":
        """What holds for later files as well: what means missing, and how timestamps are written.

        Args:
            config: Of a training run, as its manifest holds it.
        """
        data = config.get("data", {})
        missing = data.get("missing_values")
        return cls(missing_values=None if missing is None else tuple(missing), date_format=data.get("date_format"))
