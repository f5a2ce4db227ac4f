"""Columns that name rows or tell when they came: counters, keys, epochs, user names, addresses, hashes."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reading import dates

Numbers = npt.NDArray[np.float64]

LEAST_ROWS = 30
"""Of fewer rows too much may be chance."""
NEW_VALUE = 0.5
"""A text column names rows where the chance that a new row's value is new lies above this."""
DISTINCT = 0.5
"""It does, too, where it has more different values a row than this."""
COVERED = 0.5
"""It does, too, where its vocabulary covers less than this share of the rows: in most it would be unknown."""
KEY_SHARE = 0.02
"""Distinct values a row from which texts that look like keys are keys, and numbers that are called like keys."""
DENSE = 10
"""Whole numbers, all different, are a counter where they fill at least a tenth of their range."""
_LOOKS_ALIKE = 0.95
_LEAST_KEY = 10_000
_UNIFORM = 1.63
"""Kolmogorov's bound of sqrt(n) D at 1 % (Kolmogorov 1933): above it numbers are not uniform."""
_RELATED = 4.0
"""Deviations of a rank correlation, 1 / sqrt(n), from which two columns are related."""
AS_TIMESTAMP = 'kind = "timestamp" would make two fields of it, hour and weekday (UTC)'
AS_DATE = 'kind = "timestamp" would make a field of its weekday (its hour is always 0)'
_SINCE_1970 = f"holds the time since 1970, so it is a timestamp; {AS_TIMESTAMP}"
_KEY_NAME = re.compile(
    r"(?:^|[^a-z])(?:id|ids|key|uuid|guid|nr|no|num|number|index|idx|row|rowid|rownum|serial|seq|sequence|ref|"
    r"reference|unnamed|token|account|iban|card|customer|user|client|session|order|invoice|ticket|phone|kunde|konto)"
    r"(?:$|[^a-z])|id$",
)
_TIME_NAME = re.compile(r"(?:^|[^a-z])(?:(?:ts|t|at|when|day)(?:$|[^a-z])|time|date|epoch|created|updated|unix|zeit)")
_LOOKS = {
    "UUIDs": r"^\{?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\}?$",
    "hashes": r"^(?:0x)?[0-9a-fA-F]{16,}$",
    "e-mail addresses": r"^[^@\s]+@[^@\s]+\.[A-Za-z]+$",
    "network addresses": r"^(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/\d+)?|(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}|"
    r"[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7})$",
    "web addresses": r"^(?:https?|ftp)://\S+$",
    "file paths": r"^(?:[A-Za-z]:\\|/|\.\.?/)[^\n]+$",
    "long codes": r"^(?:[A-Za-z]{0,4}[-_ ]?)?[-0-9A-Z]*\d{6,}[-0-9A-Za-z]*$",
    "phone numbers": r"^\+?\d[\d ()/-]{6,}\d$",
}
_LOOSE_LOOKS = {
    "user names": r"^[A-Za-z]+[._-]?[A-Za-z]*[._-]?\d+$|^[a-z]+[._][a-z]+$|^@\w+$",
    "postal addresses": r"^(?:\d+[a-zA-Z]?\s+\S+.*\s\S+.*|\D+\s\d+[a-zA-Z]?(?:,.*)?)$",
}
"""Categories look so, too: these count only where there are more values than a vocabulary holds."""


def of_numbers(name: str, values: Numbers, others: Iterable[Numbers]) -> str | None:
    """Why a column of numbers names rows, in words that follow its name; None where it may describe them.

    Args:
        name: The column's.
        values: (n,) its values in the order of the file, NaN where missing.
        others: (n,) the other columns of numbers.
    """
    present = values[~np.isnan(values)]
    if len(present) < LEAST_ROWS:
        return None
    if (present != np.floor(present)).any():
        return _clock(present) if _epoch(name, present) is None else _SINCE_1970
    if dates.are_days(present) and present.min() < present.max():
        return f"holds timestamps written as numbers (yyyymmdd); {AS_TIMESTAMP if _has_time(present) else AS_DATE}"
    unit = _epoch(name, present)
    if unit is not None:
        return f"holds {unit} since 1970, so it is a timestamp; {AS_TIMESTAMP}"
    distinct = len(np.unique(present))
    called = _KEY_NAME.search(_spaced(name)) is not None
    if distinct == len(present):
        if _is_monotone(present):
            steps = np.unique(np.diff(present))
            sure = "" if len(steps) == 1 or called else ", most likely"
            way = "grows" if steps[0] > 0 else "falls"
            return f"{way} from row to row, so it counts them{sure}"
        width = float(present.max() - present.min()) + 1
        if width <= DENSE * len(present) and len(present) >= 100:
            share = len(present) / width
            return (
                f"holds {share:.0%} of the whole numbers in its range, none twice, so it numbers the rows, most likely"
            )
        if called and not _is_related(values, others):
            return "is called like a key, and no number stands in it twice"
        if float(present.min()) >= _LEAST_KEY and _is_uniform(present) and not _is_related(values, others):
            return "holds large whole numbers, none twice, evenly spread and without relation to others: likely keys"
        return None
    many = distinct > 20 and distinct > KEY_SHARE * len(present)
    if name.lower().startswith("unnamed:") and _is_monotone(present):
        return "is the index that pandas wrote"
    if called and many and float(present.min()) >= 0 and not _is_related(values, others):
        return f"is called like a key and holds {distinct} different whole numbers without relation to others"
    if (
        many
        and float(present.min()) >= _LEAST_KEY
        and _is_uniform(np.unique(present))
        and not _is_related(values, others)
    ):
        return (
            f"holds {distinct} different large whole numbers, evenly spread and without relation to others: likely keys"
        )
    return None


def of_texts(texts: pa.ChunkedArray, vocabulary: int) -> str | None:
    """Why a column of texts names rows, in words that follow its name; None where it may describe them.

    Args:
        texts: (n,) without nulls.
        vocabulary: Most categories that a field has.
    """
    if len(texts) <= 20:
        return None
    counted = pc.value_counts(texts)
    counts = np.sort(np.asarray(pc.struct_field(counted, "counts")))[::-1]
    distinct, rows = len(counts), int(counts.sum())
    # Good and Turing's estimate (Good 1953): the chance of a value that was never seen is the share of those seen once.
    new = float((counts == 1).sum()) / rows
    if new > NEW_VALUE or distinct > DISTINCT * rows:
        return (
            f"holds {distinct} texts in {rows} rows, {new:.0%} only once: it names rows, and a new row has a new name"
        )
    values = pc.struct_field(counted, "values")
    if distinct > max(20, KEY_SHARE * rows):
        look = _look(values, _LOOKS) or (_look(values, _LOOSE_LOOKS) if distinct > vocabulary else None)
        if look is not None:
            return f"holds {distinct} different {look}, which say who or where, and not what happened"
    covered = float(counts[:vocabulary][counts[:vocabulary] > 1].sum()) / rows
    if distinct > vocabulary and covered < COVERED:
        return f"holds {distinct} texts, of which the {vocabulary} most frequent cover {covered:.0%} of the rows"
    return None


def _look(values: pa.Array, looks: Mapping[str, str]) -> str | None:
    for look, pattern in looks.items():
        if pc.mean(pc.cast(pc.match_substring_regex(values, pattern), pa.float64())).as_py() >= _LOOKS_ALIKE:
            return look
    return None


def _has_time(days: Numbers) -> bool:
    """Whether numbers as yyyymmdd go on with hours and minutes."""
    return bool(days.max() >= 1e10)


def _clock(present: Numbers) -> str | None:
    """Numbers with fractions that grow from row to row tell when it came."""
    if not _is_monotone(present):
        return None
    return "grows or falls from row to row, so it tells where the row stands, most likely, and not what happened"


def _epoch(name: str, present: Numbers) -> str | None:
    unit = dates.epoch(present)
    if unit is None:
        return None
    low, high = (bound * dates.UNITS[unit] for bound in dates.SECONDS)
    named = _TIME_NAME.search(_spaced(name)) is not None
    distinct = len(np.unique(present)) > 0.5 * len(present)
    # A century is two thirds of its own range in seconds; a year is a hundredth.
    narrow = present.max() - present.min() < 0.2 * (high - low)
    return unit if named or (narrow and (_is_monotone(present) or (distinct and unit != "seconds"))) else None


def _is_monotone(values: Numbers) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _is_uniform(values: Numbers) -> bool:
    """Whether values may be uniform on their own range, or on all numbers of so many digits."""
    ordered = np.sort(values)
    digits = np.floor(np.log10(np.maximum(ordered[[0, -1]], 1)))
    ranges = [(ordered[0], ordered[-1])]
    if digits[0] == digits[1]:
        ranges.append((10 ** digits[0], 10 ** (digits[0] + 1)))
    ranks = np.arange(1, len(ordered) + 1) / len(ordered)
    for low, high in ranges:
        expected = (ordered - low) / max(high - low, 1)
        distance = max(float((ranks - expected).max()), float((expected - ranks + 1 / len(ordered)).max()))
        if np.sqrt(len(ordered)) * distance < _UNIFORM:
            return True
    return False


def _is_related(values: Numbers, others: Iterable[Numbers]) -> bool:
    """Whether the ranks of some other column go with this one's (Spearman 1904)."""
    for other in others:
        both = ~np.isnan(values) & ~np.isnan(other)
        if both.sum() < LEAST_ROWS:
            continue
        one, two = _ranks(values[both]), _ranks(other[both])
        spread = one.std() * two.std()
        if spread and abs(float(np.mean((one - one.mean()) * (two - two.mean()))) / spread) > _RELATED / np.sqrt(
            both.sum()
        ):
            return True
    return False


def _ranks(values: Numbers) -> Numbers:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _spaced(name: str) -> str:
    """A name with its words apart: `CustomerId` and `customer_id` alike."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
