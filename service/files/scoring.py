"""Records scored without a server: a file, a piece at a time, or a table that is in memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from bundle.contents.explanation import Explanations
from bundle.folder import contents, store
from bundle.record.fields import Tensors
from bundle.record.schema import ImageSchema
from service.codecs import columns, explained
from service.engine.graph import Graph
from service.engine.question import Question
from service.engine.verdicts import Verdicts, answered, judge
from service.errors import Fault, RequestInvalid
from service.files.piece import Piece, blocks, rows_of
from service.files.source import RecordFile
from service.files.target import Writer, images_as_text, with_scores
from service.models.opening import open_explainer, open_scorer, read
from service.settings import Settings

_ROW = " "


@dataclass(frozen=True)
class Scored:
    """What was scored so far.

    Args:
        rows: How many.
        anomalies: How many of them are flagged.
        share: How much of the file that is, 0 to 1.
    """

    rows: int
    anomalies: int
    share: float


class Scoring:
    """A bundle that answers questions about records; its graphs are opened once, when a question first takes them.

    Runs of the graph are cut at fixed numbers of rows from the first on, so that the same rows have the same scores to
    the last bit whatever the format, the reader's pieces and the number of threads, on one kind of processor.

    Args:
        bundle: models/NAME (the served version) or models/NAME/VERSION.

    Raises:
        BundleError: The bundle is refused, with the file and the reason.
    """

    def __init__(self, bundle: Path) -> None:
        self._settings = Settings()
        self._bundle = read(*store.resolve(bundle), self._settings)
        self.manifest = self._bundle.manifest
        self.schema = self.manifest.record
        self._usual = Question.usual(self.manifest)
        self._calibration = contents.calibration(self._bundle)
        self._scorer: Graph | None = None
        self._explainer: Graph | None = None
        self._opening = Lock()

    def question(self, wanted: Mapping[str, object]) -> Question:
        """What is asked of records.

        Args:
            wanted: What differs from what the bundle answers by itself: `samples`, `score`, `false_alarm_rate`,
                `explain`.

        Raises:
            RequestInvalid: Something is asked that the bundle cannot answer.
        """
        question, faults = self._usual.changed(wanted, self.manifest)
        if faults:
            raise RequestInvalid(faults)
        return question

    def open(self, question: Question) -> tuple[Graph, Graph | None]:
        """The graphs that a question takes: the one that scores, and the one that explains where it is asked for.

        Raises:
            BundleError: The bundle is refused, with the file and the reason.
        """
        with self._opening:
            if self._scorer is None:
                self._scorer = open_scorer(self._bundle, self._settings)
            if question.explain and self._explainer is None:
                self._explainer = open_explainer(self._bundle, self._settings)
            return self._scorer, self._explainer if question.explain else None

    def verdicts(self, tensors: Tensors, question: Question) -> Verdicts:
        """What is said of records; may be called from many threads.

        Args:
            tensors: The graph's inputs, B records: one block, of at most `rows_of` records.
            question: What is asked of them.
        """
        scorer, explainer = self.open(question)
        samples = question.samples
        outputs = scorer.run(tensors, samples, rows_a_run=scorer.rows_a_run(samples))
        verdicts = judge(self.manifest, self._calibration, outputs, samples)
        if (question.score, question.false_alarm_rate) != (self._usual.score, self._usual.false_alarm_rate):
            verdicts = answered(verdicts, self.manifest, self._calibration, question)
        if explainer is None:
            return verdicts
        outputs = explainer.run(tensors, samples, rows_a_run=explainer.rows_a_run(samples))
        return replace(verdicts, explanations=Explanations(self.manifest, tensors, outputs))

    def file(
        self, file: RecordFile, question: Question, writer: Writer, target: Path, report: Callable[[Scored], None]
    ) -> Scored:
        """Score a file.

        Args:
            file: The records.
            question: What is asked of them.
            writer: Takes them with their scores.
            target: What it writes; its ending decides how images and explanations are written.
            report: Told after every block.

        Raises:
            FileInvalid: Damaged, or a value that does not fit its field.
            OSError: It cannot be read or written.
        """
        done = Scored(0, 0, 0.0)
        for piece, verdicts in self._side_by_side(
            blocks(file.pieces(), rows_of(self.schema)), question, writer, target
        ):
            flagged = int(verdicts.is_anomaly.sum())
            done = Scored(done.rows + piece.table.num_rows, done.anomalies + flagged, piece.share)
            report(done)
        return done

    def _side_by_side(
        self, pieces: Iterator[Piece], question: Question, writer: Writer, target: Path
    ) -> Iterator[tuple[Piece, Verdicts]]:
        """While a block is scored, the one before it is written and the one after it is read."""
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
            following, written = reading.submit(next, pieces, None), None
            while (piece := following.result()) is not None:
                following = reading.submit(next, pieces, None)
                verdicts = self.verdicts(piece.tensors, question)
                if written is not None:
                    written.result()
                written = writing.submit(self._write, piece, verdicts, writer, target)
                yield piece, verdicts
            if written is not None:
                written.result()

    def _write(self, piece: Piece, verdicts: Verdicts, writer: Writer, target: Path) -> None:
        table: Any = piece.table
        if isinstance(self.schema, ImageSchema) and target.suffix != ".parquet":
            table = images_as_text(table, self.schema.field, piece.tensors["image"])
        writer.write_table(with_scores(table, _columns(verdicts), flat=target.suffix == ".csv"))


def of_table(scoring: Scoring, question: Question, table: pa.Table) -> pa.Table:
    """Score a table that is in memory.

    Args:
        scoring: The bundle.
        question: What is asked.
        table: Columns that are no field are passed over.

    Returns:
        A row a record; the columns that `surprisal score` adds to a Parquet file.

    Raises:
        RequestInvalid: A column or a value that does not fit, by row (from 1) and column.
    """
    schema, rows = scoring.schema, rows_of(scoring.schema)
    given = [name for name in table.column_names if schema.takes(name)]
    if not given:
        raise RequestInvalid([Fault("", f"none of the model's fields is a column: {', '.join(schema.names)}")])
    columns.check_columns(schema, given)
    table = table.select(given)
    if absent := schema.absent(given):
        warnings.warn(f"no column {', '.join(absent)}; missing in every row", stacklevel=3)
    tensors = columns.tensors(schema, table)
    parts = []
    for start in range(0, table.num_rows, rows):
        verdicts = scoring.verdicts({name: values[start : start + rows] for name, values in tensors.items()}, question)
        counted = pa.table({_ROW: pa.nulls(len(verdicts.table))})
        parts.append(with_scores(counted, _columns(verdicts), flat=False).drop_columns(_ROW))
    return pa.concat_tables(parts)


def _columns(verdicts: Verdicts) -> dict[str, Any]:
    columns: dict[str, Any] = verdicts.columns()
    if verdicts.explanations is not None:
        columns |= explained.flat(verdicts.explanations)
    return columns
