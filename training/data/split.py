"""Which rows train, stop, calibrate and evaluate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bundle.contents.calibration import least_rate, records_needed
from bundle.record.categories import category_text
from bundle.wording import like
from training.config import DataConfig, TrainingConfig
from training.data import image_files
from training.data.read import Data, Rows
from training.errors import ConfigInvalid, DataInvalid

FOLDS = 10
"""Into how many parts few rows are divided: each model then misses a tenth of them."""
_MOST_CALIBRATION = 1 / 3
"""Share of the normal rows that calibration may take before folds are the better use of them."""
LEAST = 20
"""Normal rows that a model takes; of fewer a fold's model would be trained on a dozen."""
_SHOWN_LABELS = 5
ROWS_HELD_OUT, IMAGES_HELD_OUT = 10_000, 2000
"""Most rows for calibration, and for stopping: each is scored with 511 draws in all, and an image takes longer."""


@dataclass(frozen=True)
class Split:
    """Which rows serve what; each part is sorted, and no two share a row.

    Args:
        train: Rows that the optimiser sees.
        validation: Rows that stop it.
        calibration: Normal rows that nothing fitted has seen; none where folds calibrate.
        anomalies: Labelled anomalies, for evaluation only.
        folds: Where the rows are too few to spare any: every normal row, in parts. Each is scored by a model that is
            trained on the others, and these scores calibrate.
    """

    train: Rows
    validation: Rows
    calibration: Rows
    anomalies: Rows
    folds: tuple[Rows, ...] = ()

    @property
    def normal(self) -> Rows:
        """Every normal row."""
        return np.sort(np.concatenate([self.train, self.validation, self.calibration]))


def split(data: Data, config: DataConfig, false_alarm_rate: float, seed: int) -> Split:
    """Divide the normal rows at random into train, validation and calibration.

    Where the rate takes more than a third of them for calibration, none is put aside: they are divided into folds.

    Args:
        data: The data.
        config: The label and the shares.
        false_alarm_rate: The calibration part is made large enough for it where the data allow.
        seed: Seed of the shuffle.

    Raises:
        ConfigInvalid: The label is no column, or no row has the normal value.
        DataInvalid: Too few normal rows for the rate.
    """
    normal, anomalies = by_label(data.table, config)
    shuffled = np.random.default_rng(seed).permutation(normal)
    most = config.calibration_most or (IMAGES_HELD_OUT if _has_images(data.table) else ROWS_HELD_OUT)
    sizes = held_out(normal.size, most, false_alarm_rate, config)
    if sizes is None:
        train, stopping = set_aside(shuffled, config)
        folds = tuple(np.sort(fold) for fold in np.array_split(shuffled, FOLDS))
        return Split(train, stopping, shuffled[:0], anomalies, folds)
    calibration, validation = sizes
    return Split(
        train=np.sort(shuffled[calibration + validation :]),
        validation=np.sort(shuffled[calibration : calibration + validation]),
        calibration=np.sort(shuffled[:calibration]),
        anomalies=anomalies,
    )


def held_out(rows: int, most: int, false_alarm_rate: float, config: DataConfig) -> tuple[int, int] | None:
    """How many of the normal rows calibrate and how many stop the training; None where none can be spared.

    Args:
        rows: Normal rows.
        most: That either may have.
        false_alarm_rate: See `split`.
        config: See `split`.

    Raises:
        DataInvalid: Too few normal rows for the rate.
    """
    needed = calibration_rows(false_alarm_rate, config)
    if needed > min(rows, most) or rows < LEAST:
        raise _too_few(rows, needed, most, false_alarm_rate, config)
    if needed > _MOST_CALIBRATION * rows:
        return None
    calibration = min(max(round(config.calibration_share * rows), needed), most)
    return calibration, min(max(round(config.validation_share * rows), 1), most)


def calibration_rows(false_alarm_rate: float, config: DataConfig) -> int:
    """The least rows that calibrate a false-alarm rate, those among them that contamination leaves out."""
    return math.ceil(records_needed(false_alarm_rate) / (1 - config.contamination) - 1e-9)


def attainable(data: Data, config: TrainingConfig) -> TrainingConfig:
    """The configuration; where it names no false-alarm rate, and rows are too few for the default, with the least.

    Args:
        data: The data.
        config: Everything that decides the result.

    Raises:
        ConfigInvalid: The label is no column, or no row has the normal value.
    """
    if "false_alarm_rate" in config.scoring.model_fields_set:
        return config
    rows = by_label(data.table, config.data)[0].size
    least = float(least_rate(math.floor(rows * (1 - config.data.contamination))))
    if rows < LEAST or least <= config.scoring.false_alarm_rate:
        return config
    return config.model_copy(update={"scoring": config.scoring.model_copy(update={"false_alarm_rate": least})})


def set_aside(shuffled: Rows, config: DataConfig) -> tuple[Rows, Rows]:
    """Rows to train on and rows to stop by, of rows in random order; both sorted."""
    most = config.calibration_most or ROWS_HELD_OUT
    validation = min(max(round(config.validation_share * len(shuffled)), 1), most)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])


def _too_few(rows: int, needed: int, most: int, false_alarm_rate: float, config: DataConfig) -> DataInvalid:
    if needed > most:
        return DataInvalid(
            f"a false-alarm rate of {false_alarm_rate:g} takes {needed} rows for calibration, and "
            f"data.calibration_most allows {most}; raise it, or ask for a higher rate"
        )
    least = max(needed, LEAST)
    rate = least_rate(math.floor(rows * (1 - config.contamination)))
    otherwise = f", or ask for a rate of {rate} or more" if rows >= LEAST else ""
    return DataInvalid(
        f"{rows} normal rows are too few: a false-alarm rate of {false_alarm_rate:g} takes {least}; "
        f"give as many{otherwise}"
    )


def by_label(table: pa.Table, config: DataConfig) -> tuple[Rows, Rows]:
    """Normal rows and labelled anomalies; a row without a label is neither, unless that is what is normal.

    Args:
        table: The data.
        config: The label's column and its value in normal rows, empty where normal rows have no label; without these
            every row is normal.

    Raises:
        ConfigInvalid: No such column, or no row has that value.
    """
    every = np.arange(table.num_rows)
    if config.label is None:
        if config.normal is not None and _has_images(table) and image_files.LABEL in table.column_names:
            return by_label(table, config.model_copy(update={"label": image_files.LABEL}))
        if config.normal is not None:
            raise ConfigInvalid("which rows are normal takes a label column as well: --label COLUMN")
        return every, every[:0]
    if config.label not in table.column_names:
        meant = like(config.label, table.column_names)
        raise ConfigInvalid(f"there is no column {config.label!r} to be the label{meant}")
    if config.normal is None:
        return every, every[:0]
    try:
        texts = np.array([category_text(value) for value in table[config.label].to_pylist()], object)
    except TypeError as error:
        raise ConfigInvalid(
            f"the label {config.label!r} holds {error}; text, numbers or booleans can be one"
        ) from error
    known = np.array([text not in (None, "") for text in texts])
    wanted = config.normal.lower() if pa.types.is_boolean(table[config.label].type) else config.normal
    normal = texts == wanted if wanted else ~known
    if not normal.any() and _has_images(table):
        # A folder within others, as `train/good` and `test/good` are.
        normal = np.array([text is not None and text.rpartition("/")[2] == wanted for text in texts])
    if not normal.any():
        values = sorted({text for text in texts if text is not None})[:10]
        without = f". {(~known).sum():,} rows have none: --normal '' learns from these" if not known.all() else ""
        raise ConfigInvalid(f"no row has {config.label} = {config.normal}; its values are {', '.join(values)}{without}")
    return every[normal], every[~normal & known]


def of_labels(table: pa.Table, config: DataConfig) -> Iterator[str]:
    """What a person would not expect of the labels, in words: rows without one, and spellings beside the normal one.

    Raises:
        ConfigInvalid: A label without text, numbers or booleans.
    """
    if config.label is None or config.label not in table.column_names:
        return
    column = table[config.label]
    if config.normal is None:
        yield _without_normal(column, config.label)
        return
    if not config.normal:
        rows = by_label(table, config)[0].size
        yield f"{rows:,} rows have no {config.label!r} and count as normal; the others are anomalies"
        return
    if column.null_count:
        yield f"{column.null_count:,} rows have no {config.label!r}: they are neither learnt from nor evaluated"
    if pa.types.is_string(column.type):
        texts = pc.unique(column.drop_null()).to_pylist()
        wanted = config.normal.casefold().strip()
        beside = sorted(text for text in texts if text != config.normal and text.casefold().strip() == wanted)
        if beside:
            counted = pc.sum(pc.is_in(column, pa.array(beside))).as_py()
            yield (
                f"{counted:,} rows have {config.label} = {', '.join(map(repr, beside))}, which is not "
                f"{config.normal!r}: they count as anomalies"
            )


def _without_normal(column: pa.ChunkedArray, label: str) -> str:
    if pa.types.is_nested(column.type):
        raise ConfigInvalid(f"the label {label!r} holds lists or objects; text, numbers or booleans can be one")
    counted = pc.value_counts(pc.cast(column.drop_null(), pa.string())).to_pylist()
    common = [each["values"] for each in sorted(counted, key=lambda each: -each["counts"])]
    if not common:
        return f"WARNING: the label {label!r} is empty: every row counts as normal"
    most = "" if column.null_count > max(each["counts"] for each in counted) else common[0]
    rows = f"the rows with {most}" if most else f"the {column.null_count:,} rows without one"
    shown = ", ".join(common[:_SHOWN_LABELS]) + (", …" if len(common) > _SHOWN_LABELS else "")
    return (
        f"WARNING: the label {label!r} has the values {shown}, and no --normal says which of them is normal: every row "
        f"is learnt as normal. --normal {most or chr(39) * 2} learns from {rows} alone"
    )


def _has_images(table: pa.Table) -> bool:
    return any(image_files.is_column(kind) for kind in table.schema.types)
