"""The models in service: found in the models folder, verified, warmed up, swapped without a lost request."""

import asyncio
import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson

from bundle import calibration as calibrations
from bundle import golden as goldens
from bundle import store
from bundle.calibration import Calibration
from bundle.errors import BundleError, BundleRefused, GoldenMismatch
from bundle.fields import RecordSchema, Tensors
from bundle.golden import Golden
from bundle.manifest import Manifest
from bundle.store import Bundle
from service.batcher import Answer, Batcher
from service.codecs.json import decode
from service.drift import FieldCounts
from service.errors import ModelNotFound, NotReady, QueueFull, ServiceError
from service.metrics import BatchObserver, Metrics
from service.scorer import DeviceUnavailable, Scorer
from service.settings import Settings
from service.trace import CURRENT, Trace
from service.verdicts import Verdicts, judge

INLINE_SECONDS = 2e-3
"""Batches that should run shorter than this are run on the event loop: a thread would cost more than the run."""
FULL = 0.95
"""Share of the queue beyond which a request is refused unread."""
POLL_SECONDS = 1.0
"""The models folder is looked at this often; file notifications fail on shared volumes."""

log = logging.getLogger("surprisal.models")

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Timing:
    """Seconds that a request's records were queued and that their batches ran."""

    queue: float
    infer: float


class Judge:
    """The batcher's backend: scores a batch and says what it means, once for all its requests.

    Args:
        manifest: Of the bundle.
        calibration: Of the bundle.
        scorer: Its graph.
        counts: Told of every record that was scored.
    """

    def __init__(self, manifest: Manifest, calibration: Calibration, scorer: Scorer, counts: FieldCounts) -> None:
        self._manifest = manifest
        self._calibration = calibration
        self._scorer = scorer
        self._counts = counts

    def run(self, rows: Tensors, samples: int) -> Tensors:
        """See `service.batcher.Backend`; `verdicts` is the table of `Verdicts`."""
        verdicts = judge(self._manifest, self._calibration, self._scorer.run(rows, samples), samples)
        self._counts.add(rows)
        return {"verdicts": verdicts.table}


class ServedModel:
    """One version of one model, ready to score.

    Args:
        bundle: Verified.
        scorer: Its graph.
        settings: Limits of the batcher.
        metrics: Where it is counted.
    """

    def __init__(self, bundle: Bundle, scorer: Scorer, settings: Settings, metrics: Metrics) -> None:
        self.name = bundle.name
        self.version = bundle.version
        self.manifest: Manifest = bundle.manifest
        self.schema: RecordSchema = bundle.manifest.record
        self.calibration = open_calibration(bundle)
        self.scorer = scorer
        self.loaded_at = time.time()
        self._full = FULL * settings.max_queue_records
        self._metrics = metrics
        self._counts = FieldCounts(self.manifest, metrics, self.name, self.version)
        metrics.attach(self._counts)
        self._batcher = Batcher(
            Judge(self.manifest, self.calibration, scorer, self._counts),
            max_batch_rows=settings.max_batch_records,
            max_queue_rows=settings.max_queue_records,
            max_request_rows=settings.max_records,
            inline_seconds=INLINE_SECONDS,
            observer=BatchObserver(metrics, self.name, self.version),
        )

    @property
    def healthy(self) -> bool:
        """False once nothing will be answered any more."""
        return self._batcher.healthy

    def refuse_if_full(self) -> None:
        """Say no before a body is decoded, which would cost more than the refusal.

        Raises:
            QueueFull: Hardly any record more could wait.
        """
        if self._batcher.queued_rows > self._full:
            raise QueueFull(f"{self._batcher.queued_rows} records are waiting already; try again soon")

    async def score(self, tensors: Tensors, samples: int, deadline: float) -> tuple[Verdicts, Timing]:
        """Score records.

        Args:
            tensors: The graph's inputs, B records.
            samples: Number of draws.
            deadline: On `time.monotonic`, in seconds.

        Raises:
            BatcherError: See `service.batcher`.
        """
        trace = CURRENT.get()
        if trace is not None and trace.recorded:
            answer = await self._traced(trace, tensors, samples, deadline)
        else:
            answer = await self._batcher.submit(tensors, samples, deadline)
        return Verdicts(answer.rows["verdicts"]), Timing(answer.waited, answer.ran)

    async def _traced(self, trace: Trace, tensors: Tensors, samples: int, deadline: float) -> Answer:
        trace.describe(model=self.name, version=self.version)
        submitted = time.perf_counter()
        try:
            answer = await self._batcher.submit(tensors, samples, deadline)
        except BaseException:
            # Whether it ran in vain or not at all is not known here.
            trace.stage("queue", submitted, time.perf_counter())
            raise
        taken = submitted + answer.waited
        trace.stage("queue", submitted, taken)
        # The pieces of a large request ran while others of its pieces waited.
        ended = min(time.perf_counter(), taken + answer.ran)
        trace.stage("infer", ended - answer.ran, ended, records=len(answer.rows["verdicts"]), samples=samples)
        return answer

    async def aclose(self, grace: float) -> None:
        """Answer what is queued, then end; see `Batcher.aclose`."""
        await self._batcher.aclose(grace)
        self._metrics.detach(self._counts)
        self.scorer.close()


def load(root: Path, name: str, version: int, settings: Settings, metrics: Metrics) -> ServedModel:
    """Verify a bundle byte by byte, replay its golden records, warm it up.

    Raises:
        BundleError: The bundle is refused, with the file and the reason.
        DeviceUnavailable: The device asked for cannot be had.
    """
    bundle = store.load(root, name, version)
    scorer = open_scorer(bundle, settings)
    return ServedModel(bundle, scorer, settings, metrics)


def open_scorer(bundle: Bundle, settings: Settings) -> Scorer:
    """A session on a bundle's graph that scores the golden records as at export; which also warms it up.

    Raises:
        BundleRefused: The graph cannot be loaded, or the golden records score differently.
        DeviceUnavailable: The device asked for cannot be had.
    """
    noise = _read(bundle, "noise.npy", lambda content: np.load(io.BytesIO(content), allow_pickle=False))

    def start(graph: bytes) -> Scorer:
        return Scorer(
            graph,
            noise,
            settings.device,
            threads=settings.threads,
            tf32=settings.tf32,
            gpu_memory_mb=settings.gpu_memory_mb,
        )

    scorer = _read(bundle, "scorer.onnx", start)
    golden = _read(bundle, goldens.FILE_NAME, Golden.model_validate_json)

    def score(records: Sequence[object], samples: int) -> Tensors:
        body = orjson.dumps({"records": records, "samples": samples})
        return scorer.run(decode(body, bundle.manifest, len(records), samples).tensors, samples)

    try:
        golden.verify(score)
    except ServiceError as error:
        raise GoldenMismatch(goldens.FILE_NAME, f"does not fit the manifest's fields: {error}") from error
    return scorer


def open_calibration(bundle: Bundle) -> Calibration:
    """A bundle's calibration.

    Raises:
        BundleRefused: The file is none.
    """
    return _read(bundle, calibrations.FILE_NAME, Calibration.from_bytes)


def _read(bundle: Bundle, file: str, parse: Callable[[bytes], _Content]) -> _Content:
    try:
        return parse(bundle.files[file])
    except KeyError as error:
        raise BundleRefused(file, "is not in the manifest; train it again") from error
    except DeviceUnavailable:
        raise
    except Exception as error:
        raise BundleRefused(file, f"cannot be read: {' '.join(str(error).split())}") from error


class Models:
    """Every model in service, by name.

    Args:
        settings: Where they are, and the limits.
        metrics: Where loads are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: dict[str, ServedModel] = {}
        self._refused: dict[str, tuple[object, str]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.draining = False

    @property
    def served(self) -> tuple[ServedModel, ...]:
        """The models in service, sorted by name."""
        return tuple(self._served[name] for name in sorted(self._served))

    @property
    def refused(self) -> dict[str, str]:
        """Why the version that should be served is not, by model's name."""
        return {name: reason for name, (_, reason) in self._refused.items()}

    def not_ready(self) -> str | None:
        """Why the service should get no traffic, or None."""
        if self.draining:
            return "the service is shutting down"
        if broken := [model.name for model in self.served if not model.healthy]:
            return f"the batcher of {', '.join(broken)} has died"
        if not self._served:
            reasons = [f"{name}: {reason}" for name, reason in self.refused.items()]
            return "; ".join(reasons) or f"there is no model in {self._settings.models}"
        return None

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """The model that a route names.

        Args:
            name: The model; None means the default.
            version: A version; None means the one in service.

        Raises:
            ModelNotFound: No such model or version in service, or no default among several.
            NotReady: There is no model at all yet.
        """
        if name is None:
            name = self._settings.default_model or (next(iter(self._served)) if len(self._served) == 1 else None)
        if not self._served:
            raise NotReady(self.not_ready() or "no model is loaded")
        model = None if name is None else self._served.get(name)
        if model is None:
            known = ", ".join(sorted(self._served))
            if name is None:
                raise ModelNotFound(f"there are several models; name one: POST /models/NAME/score with one of {known}")
            raise ModelNotFound(f"there is no such model in service; there are {known}")
        if version is not None and version != str(model.version):
            raise ModelNotFound(f"that version of {name} is not in service; version {model.version} is")
        return model

    async def refresh(self) -> None:
        """Load what is new in the models folder; what cannot be loaded leaves the version in service as it is.

        Raises:
            DeviceUnavailable: The device asked for cannot be had, so that no model can ever be served.
        """
        root = self._settings.models
        names = await asyncio.to_thread(store.names, root)
        for name in self._refused.keys() - set(names):
            self._accept(name)
        for name in names:
            seen: object = None
            try:
                version = store.served_version(root, name)
                if name in self._served and self._served[name].version == version:
                    self._accept(name)
                    continue
                seen = await asyncio.to_thread(_fingerprint, root / name / str(version))
                if name in self._refused and seen is not None and self._refused[name][0] == seen:
                    continue
                self._serve(await asyncio.to_thread(load, root, name, version, self._settings, self._metrics))
            except (BundleError, OSError) as error:
                # What the file system refuses today it may give in a second; a bundle's own fault stays.
                passing = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
                self._refuse(name, None if passing else seen, str(error))

    async def watch(self) -> None:
        """Refresh for ever; what goes wrong is logged and ends nothing."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("the models folder could not be looked at")

    async def aclose(self, grace: float) -> None:
        """Answer what is queued everywhere, then end."""
        await asyncio.gather(*(model.aclose(grace) for model in self.served), *self._retiring)

    def _serve(self, model: ServedModel) -> None:
        old = self._served.get(model.name)
        self._served[model.name] = model
        self._accept(model.name)
        self._metrics.reloads.labels(model.name, "loaded").inc()
        self._metrics.model_info.labels(*_info(model)).set(1)
        self._metrics.model_loaded.labels(model.name, str(model.version)).set(model.loaded_at)
        log.info("serving %s version %d on %s", model.name, model.version, model.scorer.provider)
        if old is not None:
            self._metrics.model_info.labels(*_info(old)).set(0)
            task = asyncio.create_task(old.aclose(self._settings.grace_seconds))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _accept(self, name: str) -> None:
        self._refused.pop(name, None)
        self._metrics.model_refused.labels(name).set(0)

    def _refuse(self, name: str, seen: object, reason: str) -> None:
        if name in self._refused and self._refused[name] == (seen, reason):
            return
        self._refused[name] = (seen, reason)
        self._metrics.model_refused.labels(name).set(1)
        self._metrics.reloads.labels(name, "refused").inc()
        log.error("%s is refused: %s", name, reason)


def _info(model: ServedModel) -> tuple[str, str, str, str, str]:
    digest = model.manifest.digest
    return model.name, str(model.version), digest, model.scorer.device, model.scorer.provider


def _fingerprint(folder: Path) -> object:
    files = sorted(folder.iterdir())
    return folder.name, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
