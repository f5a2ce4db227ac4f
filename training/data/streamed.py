"""A data set that is not in memory: what is known of its rows, a sample of them, and the rest a block at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reading.block import Block
from reading.likeness import Likeness, Read
from training.config import DataConfig, TrainingConfig
from training.data.files import Files
from training.data.labels import ANOMALY, NORMAL, Labels
from training.data.read import Data, Rows, digest, of_table, refusals
from training.data.row_hash import Hashes
from training.data.smallest import Smallest
from training.data.split import LEAST, ROWS_HELD_OUT, Split, calibration_rows, held_out, of_labels
from training.errors import ConfigInvalid, DataInvalid

SAMPLE_ROWS = 2**18
"""Normal rows of the sample, those held out among them.

With 20 000 of them held out, n = 242 144 stand for the rows that are trained on. The share of these n below a value
differs from that of all rows by more than sqrt(log(2 / 0.01) / (2 n)) = 0.0033 with a probability of 0.01 at most, for
all values at once and whatever the distribution (Massart 1990, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz
inequality"). So their 95 % quantile lies between the 94.67 % and the 95.33 % quantile of all rows.
"""
LEAST_SAMPLE_ROWS = 2**15
"""Of a table with many columns."""
SAMPLE_CELLS = 2**24
"""A table of more than 64 columns has a sample of fewer rows, so that it takes the memory of as many cells."""
ANOMALY_ROWS = 2**15
"""Labelled anomalies that a model is evaluated on; the report and the metrics need no more."""
_SPARE = 4
"""Times as many rows of the sample as either held-out part may have at most."""


Keeps = Callable[[Data, Rows, Hashes], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Typed:
    """The training rows of a block, and the columns that were asked for, by what their values mean.

    Args:
        block: All rows of the block.
        rows: Which of them are training rows.
        columns: Of all rows of the block.
    """

    block: Block
    rows: Rows
    columns: dict[str, Read]


@dataclass(frozen=True)
class Streamed:
    """A data set in files, of which a sample is in memory.

    Args:
        sample: Rows with the smallest hashes, normal ones and labelled anomalies, in the order of the files.
        parts: Which rows of the sample serve what. Those for validation and calibration are all that there are; those
            to train on stand for all others.
        files: The files.
        labels: Which of their rows are normal.
        likeness: How their columns are read.
        rows: How many rows they have.
        normal: How many of these are normal.
        last: The hash of the last row that is held out: normal rows above it are trained on.
        keeps: Says of rows of a block that would be trained on, and of their hashes, which of them are; by default all.
        kept: How many rows are trained on, where `keeps` leaves some out and they have been counted.
    """

    sample: Data
    parts: Split
    files: Files
    labels: Labels
    likeness: Likeness
    rows: int
    normal: int
    last: np.uint64
    keeps: Keeps | None = None
    kept: int | None = None

    @property
    def train(self) -> int:
        """How many rows are trained on."""
        every = self.normal - self.parts.validation.size - self.parts.calibration.size
        return every if self.kept is None else self.kept

    @property
    def split(self) -> str:
        """Which rows are held out, in a text that differs where others are, as they are once a file is renamed."""
        return f"{self.files.keys} {self.last} {self.normal} {self.rows}"

    @property
    def is_whole(self) -> bool:
        """Whether every normal row is in the sample."""
        return self.parts.normal.size == self.normal

    def training(self, names: Sequence[str]) -> Iterator[Typed]:
        """The rows that are trained on, in order, some at a time.

        Args:
            names: The columns that are wanted.

        Raises:
            DataInvalid: A file is damaged, or another one than before.
        """
        with refusals(self.files.path):
            for piece in self.files.pieces():
                is_normal = self.labels.of(piece.block.table) == NORMAL
                rows = np.flatnonzero(is_normal & (piece.hashes > self.last))
                part = Typed(piece.block, rows, self.likeness.of(piece.block.table, names))
                if self.keeps is not None and rows.size:
                    kept = self.keeps(self.data(part), rows, piece.hashes[rows])
                    part = replace(part, rows=rows[kept])
                yield part

    def of_labels(self, config: DataConfig) -> Iterator[str]:
        """What a person would not expect of the labels, in words; see `split.of_labels`.

        Args:
            config: As before.

        Raises:
            ConfigInvalid: A label without text, numbers or booleans.
        """
        if config.normal is not None:
            yield from self.labels.lines(config)
            return
        for line in of_labels(self.sample.table, config):
            yield line if self.is_whole else f"{line} (counted in the sample)"

    def data(self, part: Typed) -> Data:
        """A block as data of its own; errors name its file."""
        name = Path(part.block.file).name if self.files.are_several else self.sample.name
        table = pa.table({column: read.column for column, read in part.columns.items()})
        return Data(name, "", table, blocks=(part.block,))

    def place(self, block: Block, row: int) -> str:
        """Where a row of a block stands, as `Data.place` says it."""
        where = f"{Path(block.file).name}, " if self.files.are_several else ""
        return f"{where}{block.counted} {block.numbers[row]}"


def stream(path: Path, config: TrainingConfig, sample_rows: int = SAMPLE_ROWS) -> Streamed:
    """Read a data set once, and keep a sample of it.

    Args:
        path: A file, a folder or a pattern; see `reading.parts`.
        config: The label, the shares of the parts, and the seed.
        sample_rows: Normal rows that are kept at most; more where the held-out parts need them.

    Raises:
        ConfigInvalid: It is not there, or the label means nothing.
        DataInvalid: Damaged, without rows, or with too few normal rows.
    """
    with refusals(path):
        files = Files(path, config.data.reading, config.seed)
        labels = Labels(files, config.data)
        most = config.data.calibration_most or ROWS_HELD_OUT
        wanted = min(sample_rows, max(LEAST_SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(files.schema))))
        samples = {
            NORMAL: Smallest(max(wanted, _SPARE * most), files.schema),
            ANOMALY: Smallest(ANOMALY_ROWS, files.schema),
        }
        counts: Counter[int] = Counter()
        ends: dict[str, tuple[int, str]] = {}
        for piece in files.pieces():
            roles = labels.of(piece.block.table)
            counts.update(dict(enumerate(np.bincount(roles, minlength=3).tolist())))
            for role, sample in samples.items():
                sample.add(piece.hashes, piece.places, piece.block.table, roles == role)
            ends[piece.block.file] = (sum(counts.values()), piece.block.counted)
        sha256 = digest(path)
    if not counts.total():
        raise DataInvalid(f"{path}: holds no rows")
    rate = config.scoring.false_alarm_rate
    needed = calibration_rows(rate, config.data)
    # In memory these rows would have the rate that they allow.
    is_free = "false_alarm_rate" not in config.scoring.model_fields_set and LEAST <= counts[NORMAL] < needed <= most
    sizes = None if is_free else held_out(counts[NORMAL], most, rate, config.data)
    if sizes is None:
        raise ConfigInvalid(
            f"{counts[NORMAL]} normal rows are too few to put any aside, and the models of their folds take them in "
            "memory: give more --memory"
        )
    return _of_samples(samples[NORMAL], samples[ANOMALY], sizes, counts, ends, files, labels, sha256, config)


def _of_samples(
    normal: Smallest,
    anomalies: Smallest,
    sizes: tuple[int, int],
    counts: Counter[int],
    ends: dict[str, tuple[int, str]],
    files: Files,
    labels: Labels,
    sha256: str,
    config: TrainingConfig,
) -> Streamed:
    calibration, validation = sizes
    hashes, places, table = normal.rows()
    _, places_of_anomalies, table_of_anomalies = anomalies.rows()
    every = np.concatenate([places, places_of_anomalies])
    order = np.argsort(every[:, 0], kind="stable")
    raw = pa.concat_tables([table, table_of_anomalies]).take(pa.array(order))
    # Where in the sample each row has come to stand.
    now = np.empty(len(order), np.int64)
    now[order] = np.arange(len(order))
    by_hash = np.argsort(hashes, kind="stable")
    held = calibration + validation
    options = config.data.reading
    sample = of_table(
        files.path.name, sha256, raw, options, config.kinds, files.table.comma_likely, places=every[order, 0]
    )
    sample = replace(sample, said=tuple(files.table.said), blocks=_blocks(every[order], ends, raw.schema))
    parts = Split(
        train=np.sort(now[by_hash[held:]]),
        validation=np.sort(now[by_hash[calibration:held]]),
        calibration=np.sort(now[by_hash[:calibration]]),
        anomalies=np.sort(now[hashes.size :]),
    )
    likeness = Likeness(raw, sample.table, options, files.table.comma_likely, sample.date_orders)
    last = hashes[by_hash[held - 1]]
    return Streamed(sample, parts, files, labels, likeness, counts.total(), counts[NORMAL], last)


def _blocks(places: npt.NDArray[np.int64], ends: dict[str, tuple[int, str]], schema: pa.Schema) -> tuple[Block, ...]:
    """Where the rows of a sample stand: for each file those of its own."""
    cuts = np.searchsorted(places[:, 0], [end for end, _ in ends.values()]).tolist()
    found = []
    for (file, (_, counted)), start, end in zip(ends.items(), [0, *cuts], cuts, strict=False):
        found.append(Block(schema.empty_table(), file, places[start:end, 1].tolist(), counted, 1.0))
    return tuple(found)
