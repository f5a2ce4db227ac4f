"""What a run is made of before anything is fitted: rows by what they serve, and fields with their statistics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bundle.record.schema import RecordSchema
from training import modality
from training.config import DataConfig, TrainingConfig
from training.data import kinds, overview, statistics, transform
from training.data.kinds import Inferred
from training.data.read import Data, Rows
from training.data.split import Split, attainable, of_labels, split
from training.data.streamed import Streamed
from training.fitting import trimming, words
from training.fitting.checkpoint import Checkpoint

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Rows by what they serve, and the fields with their statistics.

    Args:
        parts: Which rows of the table serve what.
        inferred: What its columns seem to be.
        record: The fields.
        train: Rows to train on; of a table that is streamed those of the sample, which stand for all.
        validation: Rows that stop the training.
        streamed: The table, where it is streamed.
    """

    parts: Split
    inferred: Inferred
    record: RecordSchema
    train: Rows
    validation: Rows
    streamed: Streamed | None = None

    @property
    def rows(self) -> int:
        """How many rows are trained on."""
        return self.streamed.train if self.streamed else self.train.size

    @property
    def left_out(self) -> int:
        """How many rows to train on and to stop by are left out as likely anomalies."""
        every = self.parts.train.size if self.streamed is None else replace(self.streamed, kept=None).train
        return every - self.rows + self.parts.validation.size - self.validation.size


def with_attainable_rate(data: Data | Streamed, config: TrainingConfig, say: Say = lambda line: None) -> TrainingConfig:
    """The configuration; where it names no false-alarm rate, with one that the rows allow.

    Args:
        data: The table, or one in files, whose rows are never too few.
        config: Everything that decides the result.
        say: Told where the default is too low.

    Raises:
        ConfigInvalid: The label is no column, or no row has the normal value.
    """
    found = attainable(data, config) if isinstance(data, Data) else config
    if found is not config:
        say(words.of_rate(found))
    return found


def chosen(data: Data | Streamed, config: TrainingConfig) -> int:
    """A number that differs where other rows are trained on or the configuration is another, below 2^63.

    Args:
        data: The table, or one in files.
        config: Everything that decides the result.
    """
    if isinstance(data, Data):
        return Checkpoint.of(None, data, config, "").number
    return Checkpoint.of(None, data.sample, config, "", data.split).number


def prepare(data: Data, config: TrainingConfig, say: Say) -> Prepared:
    """Of a table in memory.

    Args:
        data: The table.
        config: Everything that decides the result.
        say: Told what was decided.

    Raises:
        ConfigInvalid: The configuration asks for what is not there.
        DataInvalid: The data cannot be trained on.
    """
    parts = split(data, config.data, config.scoring.false_alarm_rate, config.seed)
    for line in of_labels(data.table, config.data):
        say(line)
    prepared = _of_parts(data, parts, config, say)
    say(_of_rows(prepared))
    return prepared


def prepare_streamed(streamed: Streamed, config: TrainingConfig, say: Say) -> Prepared:
    """Of a table of which a sample is in memory: it decides the fields, and all training rows give their statistics.

    Args:
        streamed: The table.
        config: Everything that decides the result.
        say: Told what was decided.

    Raises:
        ConfigInvalid: The configuration asks for what is not there.
        DataInvalid: The data cannot be trained on.
    """
    for line in _lines(streamed, config.data):
        say(line)
    prepared = _of_parts(streamed.sample, streamed.parts, config, say)
    say("reading all training rows for the exact statistics of these fields")
    fields = {field.name: field for field in prepared.inferred.fields}
    if config.data.contamination:
        parts = streamed.parts
        fields_of_cut = prepared.inferred.fields
        cut = trimming.Cut(streamed.sample, parts.train, parts.validation, fields_of_cut, config, streamed.last)
        streamed = replace(streamed, keeps=cut.keeps)
    record, rows, said = statistics.exact(prepared.record, streamed, fields, config)
    for line in said:
        say(line)
    prepared = replace(prepared, record=record, streamed=replace(streamed, kept=rows))
    say(_of_rows(prepared))
    return prepared


def _of_parts(data: Data, parts: Split, config: TrainingConfig, say: Say) -> Prepared:
    inferred = kinds.chosen(data, parts.normal, config)
    fields = inferred.fields
    modality.refuse_score(config, fields)
    record, train, validation = trimming.prepare(data, parts.train, parts.validation, fields, config)
    inferred = inferred.and_notes(trimming.values_lost(data, parts.train, train, record, fields, config))
    overview.refuse_names(record)
    for line in overview.lines(overview.of(data, record, train), data, inferred):
        say(line)
    logged = {field.name for field in record.fields if field.kind == "numeric" and field.transform == "log"}
    for column, said in transform.describe(data, train, fields, logged).items():
        say(f"{column}: {said}")
    return Prepared(parts, inferred, record, train, validation)


def _of_rows(prepared: Prepared) -> str:
    rows = {"train": prepared.rows, "validation": prepared.validation.size, "left_out": prepared.left_out}
    return words.of_rows(prepared.record, prepared.parts, rows)


def _lines(streamed: Streamed, config: DataConfig) -> Iterator[str]:
    """What a person should know of the rows, and of how much of them a sample decides."""
    others = streamed.rows - streamed.normal
    labelled = f"{streamed.normal:,} of them normal, " if others else ""
    yield (
        f"{streamed.rows:,} rows in {streamed.files.count} file{'s' if streamed.files.are_several else ''}, {labelled}"
        + (
            "all of them in the sample that decides the fields"
            if streamed.is_whole
            else f"of which a sample of {streamed.parts.normal.size:,} normal rows decides kinds and transforms, and "
            "what is said next; means, scales, vocabularies and missing rates will be those of all training rows"
        )
    )
    yield from streamed.of_labels(config)
