"""The names under which records get their scores: columns that a file of scored records has beside its own."""

from bundle.contents.explanation import TOP
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

VERDICTS = (
    "reconstruction_probability",
    "log_reconstruction_probability",
    "elbo",
    "iwae",
    "expected_log_likelihood",
    "anomaly_score",
    "p_value",
    "is_anomaly",
)
"""What is said of every record."""
ERROR = "error"
"""Why a row of a file has no score; empty where it has one."""
LATENT_MEAN = "latent_mean"
ROW = "row"
"""A row's number in its file, where not every row is written."""

_NUMBER_OR_CATEGORY = (
    "field",
    "surprisal",
    "excess",
    "share",
    "conditional_excess",
    "value",
    "expected",
    "interval_low",
    "interval_high",
    "direction",
)
_IMAGE = (
    "field",
    "surprisal",
    "excess",
    "share",
    "conditional_excess",
    "expected",
    "direction",
    "surprisal_map",
)


def latent_means(latent_size: int, *, flat: bool) -> tuple[str, ...]:
    """Columns of the latent mean.

    Args:
        latent_size: K.
        flat: Whether there are K of them, as CSV needs it, and not one of lists.
    """
    return tuple(f"{LATENT_MEAN}_{index}" for index in range(latent_size)) if flat else (LATENT_MEAN,)


def explained(record: RecordSchema) -> tuple[dict[str, str], ...]:
    """Columns of an explanation, for each of the fields that it names: what each says, and its name.

    Args:
        record: The bundle's fields.
    """
    parts: tuple[str, ...]
    match record:
        case ImageSchema():
            parts = _IMAGE
        case TableSchema():
            parts = _NUMBER_OR_CATEGORY
    ranks = range(1, min(TOP, len(record.fields)) + 1)
    return tuple({part: f"explanation_{rank}_{part}" for part in parts} for rank in ranks)


def of_scores(record: RecordSchema, latent_size: int, *, flat: bool, latent: bool, explain: bool) -> tuple[str, ...]:
    """The columns that stand behind those of a file, in order.

    Args:
        record: The bundle's fields.
        latent_size: K.
        flat: Whether it is CSV, which holds no lists.
        latent: Whether latent means are written.
        explain: Whether records are explained.
    """
    return (
        *VERDICTS,
        ERROR,
        *(latent_means(latent_size, flat=flat) if latent else ()),
        *(name for columns in explained(record) if explain for name in columns.values()),
    )


def every(record: RecordSchema, latent_size: int) -> frozenset[str]:
    """Every column that a file may get, whatever is asked and whatever its format is.

    Args:
        record: The bundle's fields.
        latent_size: K.
    """
    asked = {"latent": True, "explain": True}
    scores = (of_scores(record, latent_size, flat=flat, **asked) for flat in (True, False))
    return frozenset((ROW, *(name for names in scores for name in names)))
