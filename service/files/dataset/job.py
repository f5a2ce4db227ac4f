"""One shard scored: its rows read, scored, and published with what is counted, by whichever process does it."""

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from reading.errors import FileInvalid
from reading.opening import opened_part
from reading.options import Options
from service.files.dataset.place import Place
from service.files.dataset.plan import FOLDER
from service.files.dataset.shard import Shard
from service.files.scored_rows import ScoredRows
from service.files.scoring import Scoring
from service.files.selection import Selection
from service.files.table import TableRecords
from service.files.target import Writer, writer

ERRORS = f"{FOLDER}/errors"
"""Below OUT: rows without a score, a file a shard."""
DONE = f"{FOLDER}/shards"
"""Below OUT: what is known of each shard that is done, written last."""


class OutFailed(OSError):
    """OUT cannot be written: no other shard would fare better."""


@dataclass(frozen=True)
class Job:
    """What every process is told.

    Args:
        bundle: models/NAME/VERSION.
        source: IN.
        out: OUT.
        wanted: What differs from what the bundle answers by itself; see `Scoring.question`.
        selection: What is written.
        options: What a person said of how files are written.
        skip: Whether a row that does not fit is put aside, in place of the end of its shard.
        strict: Whether a file that lacks a field of the model is refused.
    """

    bundle: Path
    source: Place
    out: Place
    wanted: Mapping[str, object]
    selection: Selection
    options: Options
    skip: bool
    strict: bool


@dataclass(frozen=True)
class Done:
    """What is known of a shard that is done; rows in = rows out + left out + errors.

    Args:
        path: Its file, below IN.
        target: The file of its scores, below OUT.
        key: The shard's.
        rows: How many were read.
        written: How many are in the target.
        left_out: How many were not asked for, because they are not flagged.
        flagged: How many are anomalies.
        errors: How many have no score.
        bytes: Of the target.
        sha256: Of the target's bytes.
        unknown: By categorical field, how many rows hold a text that training never saw.
        missing: By field, how many rows hold nothing.
        absent: Fields of the model that the file lacks.
        said: How the file was read where a reader could expect otherwise.
    """

    path: str
    target: str
    key: str
    rows: int
    written: int
    left_out: int
    flagged: int
    errors: int
    bytes: int
    sha256: str
    unknown: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def record(self) -> str:
        """The file that holds this, below OUT."""
        return f"{DONE}/{self.key}.json"


def read_done(content: bytes) -> Done:
    """What was written of a shard.

    Raises:
        ValueError: That is no such file.
    """
    try:
        found = json.loads(content)
        return Done(**found | {"absent": tuple(found["absent"]), "said": tuple(found["said"])})
    except (KeyError, TypeError) as error:
        raise ValueError("it has not the members of a finished shard") from error


class Worker:
    """Scores shards of one job, with graphs that are opened once.

    Args:
        job: What is asked.

    Raises:
        BundleError: The bundle is refused.
        RequestInvalid: The bundle cannot answer.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scoring = Scoring(job.bundle)
        self._question = self._scoring.question(job.wanted)
        scorer, _ = self._scoring.open(self._question)
        self.provider = scorer.provider
        self.digest = self._scoring.manifest.digest

    def do(self, shard: Shard) -> Done:
        """Score a shard and publish its results; a second time gives the same bytes.

        Raises:
            FileInvalid: The file is damaged, or has changed since the run was planned, or rows do not fit.
            OutFailed: OUT cannot be written.
            OSError: The file cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="surprisal-shard-") as folder:
            try:
                return self._do(shard, Path(folder))
            except FileInvalid as error:
                # Where a copy of it lay is nobody's business.
                raise FileInvalid(str(error).replace(f"{folder}/", "")) from error

    def _do(self, shard: Shard, folder: Path) -> Done:
        job, schema = self._job, self._scoring.schema
        self._require_unchanged(shard)
        part = shard.part(job.source)
        if part.filesystem is not None and part.kind != "parquet":
            copy = folder / part.path.name
            with part.filesystem.open_input_stream(str(part.path)) as there, copy.open("wb") as here:
                shutil.copyfileobj(there, here)
            part = replace(part, path=copy, filesystem=None)
        opened = opened_part(part, job.options, job.skip)
        forms = None if shard.text is None else shard.text.forms
        file = TableRecords(opened, schema, job.options, job.skip, True, forms)
        absent = schema.absent(file.columns)
        if len(absent) == len(schema.names) or (absent and job.strict):
            raise FileInvalid(f"{job.source.named(shard.path)}: has no column {', '.join(absent)}")
        errors = _Errors()
        path = folder / "scored.parquet"
        elsewhere = [name for name in part.constants if job.selection.carries(name)]
        with writer(path) as target:
            scored = self._scoring.file(
                file, self._question, job.selection, _Bare(target, elsewhere), lambda done: None, errors.take
            )
        self._require_unchanged(shard)
        content = path.read_bytes()
        done = Done(
            path=shard.path,
            target=shard.target,
            key=shard.key,
            rows=scored.rows + len(file.skipped),
            written=scored.written,
            left_out=scored.rows - scored.faulty - scored.written,
            flagged=scored.anomalies,
            errors=scored.faulty + len(file.skipped),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            unknown={name: count for name, count in scored.unknown.items() if count},
            missing={name: count for name, count in scored.missing.items() if count},
            absent=tuple(absent),
            said=_said(file),
        )
        self._publish(done, content, errors.table(shard, file.skipped))
        return done

    def _publish(self, done: Done, content: bytes, errors: pa.Table) -> None:
        out = self._job.out
        try:
            if errors.num_rows:
                sink = pa.BufferOutputStream()
                pyarrow.parquet.write_table(errors, sink)
                out.publish(f"{ERRORS}/{done.key}.parquet", sink.getvalue().to_pybytes())
            out.publish(done.target, content)
            out.publish(done.record, json.dumps(asdict(done), sort_keys=True).encode())
        except OSError as error:
            raise OutFailed(error.errno or errno.EIO, error.strerror or str(error), out.named(done.target)) from error

    def _require_unchanged(self, shard: Shard) -> None:
        """A key is of the file as it stood when the run was planned."""
        entry = self._job.source.entry(shard.path)
        name = self._job.source.named(shard.path)
        if entry is None:
            raise FileInvalid(f"{name}: is gone since the run began")
        if (entry.size, entry.changed) != (shard.size, shard.changed):
            raise FileInvalid(f"{name}: has changed since the run began; name another OUT, or put the file back")


def _said(file: TableRecords) -> tuple[str, ...]:
    read_as = (f"read as: {', '.join(file.said)}",) if file.said else ()
    return (*read_as, *file.notes)


class _Errors:
    """Rows that have no score, put aside."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._reasons: list[str] = []

    def take(self, rows: ScoredRows) -> ScoredRows:
        """See `Scoring.file`."""
        wrong = np.array([fault is not None for fault in rows.faults], bool)
        if not wrong.any():
            return rows
        self._rows += rows.numbers[wrong].tolist()
        self._reasons += rows.faults[wrong].tolist()
        return rows.take(np.flatnonzero(~wrong))

    def table(self, shard: Shard, skipped: Sequence[str]) -> pa.Table:
        """A row each: file, row or line, reason; of lines that could not be taken apart the reason names the line."""
        count = len(self._rows) + len(skipped)
        rows = pa.array([*self._rows, *[None] * len(skipped)], pa.int64())
        reasons = pa.array([*self._reasons, *skipped], pa.string())
        return pa.table({"file": pa.array([shard.path] * count, pa.string()), "row": rows, "reason": reasons})


class _Bare:
    """A writer of tables without what folders say; see `service.files.target.Writer`.

    Args:
        target: Where they are written.
        folders: Columns of IN that folders name and that are carried; OUT has the same folders.
    """

    def __init__(self, target: Writer, folders: Iterable[str]) -> None:
        self._target = target
        self._elsewhere = frozenset(folders)
        self.flat, self.text = target.flat, target.text

    def write_table(self, table: pa.Table) -> None:
        """See `Writer.write_table`."""
        self._target.write_table(table.drop_columns([name for name in table.column_names if name in self._elsewhere]))
