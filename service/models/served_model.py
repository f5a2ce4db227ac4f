"""One version of a model, ready to score: its graph, its calibration, its batcher."""

import asyncio
import time
from dataclasses import dataclass, replace

from bundle.contents import typical
from bundle.contents.calibration import Calibration
from bundle.contents.manifest import Manifest
from bundle.errors import BundleError
from bundle.folder import contents
from bundle.folder.store import Bundle
from bundle.record.fields import Tensors
from bundle.record.records import encode_records
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.engine.batcher import Batcher
from service.engine.graph import Graph
from service.engine.portions import Outcome, Results
from service.engine.question import Question
from service.engine.request import Admission
from service.engine.run_guard import Watch
from service.engine.verdicts import Verdicts, answered, judge
from service.errors import QueueFull
from service.models.explainer import Explainer
from service.models.observer import BatchObserver, ShadowObserver
from service.models.opening import open_explainer, open_scorer
from service.models.shadow import Shadow
from service.settings import Settings
from service.telemetry.drift import FieldCounts
from service.telemetry.metrics import Metrics
from service.wire import client
from service.wire.trace import CURRENT, Trace

INLINE_SECONDS = 2e-3
"""Batches that should run shorter than this are run on the event loop: a thread would cost more than the run."""
_QUEUED_REQUESTS = 8
"""Requests of images, each as large as any may be, that may wait for a batch."""
FULL = 0.95
"""Share of the queue beyond which a request is refused unread."""


@dataclass(frozen=True)
class Timing:
    """Seconds that a request's records were queued, that their batches ran, and that explaining them took."""

    queue: float
    infer: float
    explain: float = 0.0


class Judge:
    """The batcher's backend: scores a batch and says what it means, once for all its requests.

    Args:
        manifest: Of the bundle.
        calibration: Of the bundle.
        scorer: Its graph.
        counts: Told of every record that was scored.
    """

    def __init__(self, manifest: Manifest, calibration: Calibration, scorer: Graph, counts: FieldCounts) -> None:
        self._manifest = manifest
        self._calibration = calibration
        self._scorer = scorer
        self._counts = counts

    def run(self, rows: Tensors, samples: int) -> Verdicts:
        """See `service.engine.batcher.Backend`."""
        verdicts = judge(self._manifest, self._calibration, self._scorer.run(rows, samples), samples)
        self._counts.add(rows)
        return verdicts


def _arrays(verdicts: Verdicts) -> Tensors:
    return {"verdicts": verdicts.table}


class ServedModel:
    """One version of one model, ready to score.

    Args:
        bundle: Verified.
        scorer: Its graph.
        settings: Limits of the batcher.
        metrics: Where it is counted.
        shadow: Whether it answers nobody.
        explainer: The graph that explains, where the bundle has one.
        example: What it answers to a record as records usually are, for the documentation.
    """

    def __init__(
        self,
        bundle: Bundle,
        scorer: Graph,
        settings: Settings,
        metrics: Metrics,
        *,
        shadow: bool,
        explainer: Graph | None,
        example: Verdicts | None = None,
    ) -> None:
        self.example = example
        self.name = bundle.name
        self.version = bundle.version
        self.manifest: Manifest = bundle.manifest
        self.schema: RecordSchema = bundle.manifest.record
        self.question = Question.usual(bundle.manifest)
        """What it answers unless another is asked."""
        self.calibration = contents.calibration(bundle)
        self.scorer = scorer
        self.explainer = None if explainer is None else Explainer(self.manifest, explainer, settings)
        self.loaded_at = time.time()
        self.shadow: Shadow | None = None
        """What is tried out beside it."""
        # An image that a kilobyte of a file holds may be a megabyte of levels.
        self.largest_request = fitting(settings.max_records, self.schema, settings.max_expanded_bytes)
        """Most records in a request."""
        waiting = fitting(settings.max_queue_records, self.schema, _QUEUED_REQUESTS * settings.max_expanded_bytes)
        self._full = FULL * waiting
        self._metrics = metrics
        self._counts = FieldCounts(self.manifest, metrics, self.name, self.version)
        metrics.attach(self._counts)
        self._batcher = Batcher(
            Judge(self.manifest, self.calibration, scorer, self._counts),
            Results(_arrays, Verdicts.part, Verdicts.joined),
            max_batch_rows=settings.max_batch_records,
            max_queue_rows=waiting,
            max_request_rows=self.largest_request,
            max_batch_draws=scorer.batch_draws,
            # A shadow must not hold up the event loop, on which others wait.
            inline_seconds=0.0 if shadow else INLINE_SECONDS,
            observer=(ShadowObserver if shadow else BatchObserver)(metrics, self.name, self.version),
            clock=time.monotonic,
        )

    @property
    def healthy(self) -> bool:
        """False once nothing will be answered any more."""
        return self._batcher.healthy

    def most_records(self, question: Question) -> int:
        """Most records that may be asked this at a time."""
        if self.explainer is None or not question.explain:
            return self.largest_request
        return min(self.largest_request, self.explainer.limit(question.samples))

    def refuse_if_full(self) -> None:
        """Say no before a body is decoded, which would cost more than the refusal.

        Raises:
            QueueFull: Hardly any record more could wait, and others have less waiting than who asks.
        """
        if self._batcher.is_full(client.CURRENT.get(), self._full):
            raise QueueFull(f"{self._batcher.queued_rows} records are waiting already; try again soon")

    def admission(self, deadline: float) -> Admission:
        """What refuses records of the current client that would be late, before their tensors are made.

        Args:
            deadline: On `time.monotonic`, in seconds.
        """
        asking, explainer = client.CURRENT.get(), self.explainer

        def admit(records: int, question: Question) -> None:
            self._batcher.refuse_if_late(records, question.samples, deadline, asking)
            if question.explain and explainer is not None:
                explainer.refuse(records, question.samples, deadline, asking)

        return admit

    async def score(self, tensors: Tensors, question: Question, deadline: float) -> tuple[Verdicts, Timing]:
        """Score records.

        Args:
            tensors: The graph's inputs, B records.
            question: What is asked of them.
            deadline: On `time.monotonic`, in seconds.

        Raises:
            ServiceError: See `service.engine.batcher.Batcher.submit`.
        """
        if question.explain and self.explainer is not None:
            self.explainer.refuse(len(next(iter(tensors.values()))), question.samples, deadline, client.CURRENT.get())
        trace = CURRENT.get()
        if trace is not None and trace.recorded:
            outcome = await self._traced(trace, tensors, question.samples, deadline)
        else:
            outcome = await self._batcher.submit(tensors, question.samples, deadline, client.CURRENT.get())
        verdicts = outcome.result
        if question.score != self.question.score or question.false_alarm_rate != self.question.false_alarm_rate:
            verdicts = answered(verdicts, self.manifest, self.calibration, question)
        if not question.explain or self.explainer is None:
            return verdicts, Timing(outcome.waited, outcome.ran)
        started = time.perf_counter()
        explanations = await self.explainer.explain(tensors, question.samples, deadline)
        ended = time.perf_counter()
        if trace is not None:
            trace.stage("explain", started, ended, records=len(explanations), samples=question.samples)
        return replace(verdicts, explanations=explanations), Timing(outcome.waited, outcome.ran, ended - started)

    async def _traced(self, trace: Trace, tensors: Tensors, samples: int, deadline: float) -> Outcome[Verdicts]:
        trace.describe(model=self.name, version=self.version)
        submitted = time.perf_counter()
        try:
            outcome = await self._batcher.submit(tensors, samples, deadline, client.CURRENT.get())
        except BaseException:
            # Whether it ran in vain or not at all is not known here.
            trace.stage("queue", submitted, time.perf_counter())
            raise
        taken = submitted + outcome.waited
        trace.stage("queue", submitted, taken)
        # The portions of a large request ran while others of its portions waited.
        ended = min(time.perf_counter(), taken + outcome.ran)
        trace.stage("infer", ended - outcome.ran, ended, records=len(outcome.result.table), samples=samples)
        return outcome

    async def aclose(self, grace: float) -> None:
        """Answer what is queued, then end; see `Batcher.aclose`."""
        explaining = () if self.explainer is None else (self.explainer.aclose(grace),)
        # At once: one after the other would take the grace twice.
        await asyncio.gather(self._batcher.aclose(grace), *explaining)
        self._metrics.detach(self._counts)
        self.scorer.close()


def opened(
    bundle: Bundle,
    settings: Settings,
    metrics: Metrics,
    *,
    shadow: bool,
    loading: Watch,
    serving: Watch,
) -> ServedModel:
    """Open a bundle: its graphs must answer the golden records as at export.

    Args:
        bundle: Verified.
        settings: Of the service.
        metrics: Where it is counted.
        shadow: Whether it is to answer nobody.
        loading: How long the golden records may take.
        serving: How long what is asked of it then may take.

    Raises:
        BundleError: The bundle is refused, with the file and the reason.
        DeviceUnavailable: The device asked for cannot be had.
    """
    scorer = open_scorer(bundle, settings, loading)
    # What answers nobody explains nothing to anybody.
    explainer = None if shadow else open_explainer(bundle, settings, loading)
    if loading.given_up:
        raise BundleError("nobody waits for it any more")
    example = None if shadow else _example(bundle, scorer)
    for graph in (scorer, explainer):
        if graph is not None:
            graph.watch = serving
    return ServedModel(bundle, scorer, settings, metrics, shadow=shadow, explainer=explainer, example=example)


def _example(bundle: Bundle, scorer: Graph) -> Verdicts:
    manifest = bundle.manifest
    tensors = encode_records(manifest.record, [typical.record(manifest.record, manifest.reference)])
    outputs = scorer.run(tensors, manifest.samples)
    return judge(manifest, contents.calibration(bundle), outputs, manifest.samples)


def fitting(records: int, schema: RecordSchema, most_bytes: int) -> int:
    """So many records, or of images no more than have so many levels; one at least."""
    match schema:
        case ImageSchema():
            return max(1, min(records, most_bytes // schema.levels))
        case TableSchema():
            return records
