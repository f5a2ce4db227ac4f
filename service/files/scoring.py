"""Records scored without a server: a file, a piece at a time, or a table that is in memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from bundle.contents import answer_names
from bundle.contents.explanation import Explanations
from bundle.folder import contents, store
from bundle.record.fields import Tensors
from bundle.record.schema import ImageSchema
from service.codecs import columns
from service.engine.graph import Graph
from service.engine.question import Question
from service.engine.verdicts import Verdicts, answered, judge
from service.errors import Fault, RequestInvalid
from service.files import placed
from service.files.counts import missing, unknown
from service.files.form import Form, said_columns, scores_written
from service.files.npz import NpzFile
from service.files.piece import Piece, blocks, rows_of
from service.files.scored_rows import Places, ScoredRows
from service.files.selection import Selection
from service.files.source import RecordFile
from service.files.target import Target
from service.models.opening import open_explainer, open_scorer, read
from service.settings import settings


@dataclass(frozen=True)
class Scored:
    """What was scored so far.

    Args:
        rows: How many.
        anomalies: How many of them are flagged.
        share: How much of the file that is, 0 to 1.
        written: How many of them are written, or soon will be.
        faulty: How many of them have no score, because they do not fit or hold nothing.
        unknown: By categorical field, how many rows hold a text that the model does not know.
        missing: By field, how many rows hold nothing.
    """

    rows: int = 0
    anomalies: int = 0
    share: float = 0.0
    written: int = 0
    faulty: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)

    def and_of(
        self, scored: ScoredRows, share: float, unknown: Mapping[str, int], missing: Mapping[str, int]
    ) -> "Scored":
        """What was scored with some more rows.

        Args:
            scored: These rows.
            share: How much of the file it is then.
            unknown: By categorical field, how many of them hold a text that the model does not know.
            missing: By field, how many of them hold nothing.
        """
        fit = np.array([fault is None for fault in scored.faults], bool)
        return replace(
            self,
            rows=self.rows + len(scored),
            anomalies=self.anomalies + int((scored.verdicts.is_anomaly & fit).sum()),
            share=share,
            faulty=self.faulty + int((~fit).sum()),
            unknown={name: self.unknown.get(name, 0) + count for name, count in unknown.items()},
            missing={name: self.missing.get(name, 0) + count for name, count in missing.items()},
        )


class Scoring:
    """A bundle that answers questions about records; its graphs are opened once, when a question first takes them.

    A row of a file has the same scores to the last bit whatever the format, the reader's pieces, the shards that the
    file is cut into and the number of threads, on one kind of processor; see `service.files.placed`.

    Args:
        bundle: models/NAME (the served version) or models/NAME/VERSION.

    Raises:
        BundleError: The bundle is refused, with the file and the reason.
    """

    def __init__(self, bundle: Path) -> None:
        self._settings = settings()
        self._bundle = read(*store.resolve(bundle), self._settings)
        self.name, self.version = self._bundle.name, self._bundle.version
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

    def verdicts(self, tensors: Tensors, question: Question, numbers: Places) -> Verdicts:
        """What is said of records, but for why; may be called from many threads.

        Args:
            tensors: The graph's inputs, B records: one block, of at most `rows_of` records.
            question: What is asked of them.
            numbers: (B,) the place of each in its file or table, from 1.
        """
        scorer, _ = self.open(question)
        samples = question.samples
        outputs = self._run(scorer, tensors, samples, numbers)
        verdicts = judge(self.manifest, self._calibration, outputs, samples)
        if (question.score, question.false_alarm_rate) == (self._usual.score, self._usual.false_alarm_rate):
            return verdicts
        return answered(verdicts, self.manifest, self._calibration, question)

    def explanations(self, tensors: Tensors, question: Question, numbers: Places) -> Explanations | None:
        """Why records are strange, where that is asked; may be called from many threads.

        Args:
            tensors: The graph's inputs, B records: one block, of at most `rows_of` records.
            question: What is asked of them.
            numbers: (B,) the place of each in its file or table, from 1.
        """
        _, explainer = self.open(question)
        if explainer is None:
            return None
        outputs = self._run(explainer, tensors, question.samples, numbers)
        return Explanations(self.manifest, tensors, outputs)

    def _run(self, graph: Graph, tensors: Tensors, samples: int, numbers: Places) -> Tensors:
        return placed.run(graph, tensors, numbers, samples, rows_of(self.schema))

    def file(
        self,
        file: RecordFile,
        question: Question,
        selection: Selection,
        writer: Target,
        report: Callable[[Scored], None],
        aside: Callable[[ScoredRows], ScoredRows] | None = None,
    ) -> Scored:
        """Score a file: while a block is scored, the one before it is written and the one after it is read.

        Args:
            file: The records.
            question: What is asked of them; of rows that are not written nothing is explained.
            selection: What is written.
            writer: Takes them with their scores.
            report: Told after every block.
            aside: Takes rows that are to be written elsewhere out of each block, and gives the others.

        Raises:
            ColumnsRefused: Columns are asked for that are not there, or that are doubled; nothing has been scored.
            FileInvalid: Damaged, or a value that does not fit its field.
            OSError: It cannot be read or written.
        """
        pieces = blocks(file.pieces(), rows_of(self.schema))
        first = next(pieces)
        form = self._form(file, first.table.column_names, question, selection, writer, aside is None)
        sieve, done = selection.sieve(rows_of(self.schema)), Scored()
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
            behind = _Behind(writing, lambda rows, why: writer.write_table(form.table(rows, why)))
            for piece in _ahead(reading, chain([first], pieces)):
                scored = self._scored(piece, done.rows, question, form)
                written = 0
                for rows in sieve.add(scored if aside is None else aside(scored)):
                    behind.put(rows, self.explanations(rows.tensors, question, rows.numbers))
                    written += len(rows)
                done = done.and_of(scored, piece.share, unknown(self.schema, piece), missing(self.schema, piece))
                report(done := replace(done, written=done.written + written))
            for rows in sieve.rest():
                behind.put(rows, self.explanations(rows.tensors, question, rows.numbers))
                done = replace(done, written=done.written + len(rows))
            behind.wait()
        return done

    def _form(
        self,
        file: RecordFile,
        found: Sequence[str],
        question: Question,
        selection: Selection,
        writer: Target,
        faults: bool,
    ) -> Form:
        # An array of images numbers them itself.
        numbers_itself = isinstance(file, NpzFile) and isinstance(self.schema, ImageSchema)
        numbered = not (selection.everything or (numbers_itself and selection.carries(answer_names.ROW)))
        scores = scores_written(self.manifest, question, selection, flat=writer.flat, faults=faults)
        carried = selection.carried(found, (answer_names.ROW, *scores) if numbered else scores)
        return Form(self.schema, carried, scores, numbered, selection.latent, writer.flat, writer.text)

    def _scored(self, piece: Piece, before: int, question: Question, form: Form) -> ScoredRows:
        # A field's own column names its categories in an explanation.
        kept = [name for name in piece.table.column_names if question.explain or name in form.carried]
        rows = piece.table.num_rows
        numbers = np.arange(before + 1, before + 1 + rows) if piece.numbers is None else piece.numbers
        faults = np.full(rows, None, object)
        verdicts = self.verdicts(piece.tensors, question, numbers)
        if piece.faults:
            places = np.array(sorted(piece.faults))
            faults[places] = [piece.faults[place] for place in places.tolist()]
            # No number comes last among the strangest.
            table = verdicts.table.copy()
            table[places] = np.nan
            verdicts = Verdicts(table)
        return ScoredRows(numbers, piece.table.select(kept), piece.tensors, verdicts, faults)


class _Behind:
    """Does one thing after another, while the next is prepared.

    Args:
        pool: Of one thread.
        do: What is done of each.
    """

    def __init__(self, pool: ThreadPoolExecutor, do: Callable[[ScoredRows, Explanations | None], None]) -> None:
        self._pool = pool
        self._do = do
        self._last: Future[None] | None = None

    def put(self, rows: ScoredRows, why: Explanations | None) -> None:
        """Have it done of these rows, once it is done of those before."""
        self.wait()
        self._last = self._pool.submit(self._do, rows, why)

    def wait(self) -> None:
        """Return once it is done of all rows.

        Raises:
            Exception: What came of it.
        """
        if self._last is not None:
            self._last.result()


def _ahead(pool: ThreadPoolExecutor, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces, of which each is made while the one before is used."""
    following = pool.submit(next, pieces, None)
    while (piece := following.result()) is not None:
        following = pool.submit(next, pieces, None)
        yield piece


def of_table(scoring: Scoring, question: Question, table: pa.Table, *, latent: bool = False) -> pa.Table:
    """Score a table that is in memory.

    Args:
        scoring: The bundle.
        question: What is asked.
        table: Columns that are no field are passed over.
        latent: Whether latent means are given.

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
        some = {name: values[start : start + rows] for name, values in tensors.items()}
        numbers = np.arange(start + 1, min(start + rows, table.num_rows) + 1)
        verdicts = scoring.verdicts(some, question, numbers)
        why = scoring.explanations(some, question, numbers)
        parts.append(pa.table(said_columns(verdicts, why, table.slice(start, rows), latent=latent, flat=False)))
    return pa.concat_tables(parts)
