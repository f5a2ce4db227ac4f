"""Every metric of the service (`surprisal_…`, base units), right across workers, which share a folder."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from service.settings import METRICS_FOLDER
from service.telemetry import metrics_file
from service.telemetry.tally import Tally, TallyCounter, TallyHistogram
from service.telemetry.worker_table import WorkerTable, new_file

FLUSH_SECONDS = 1.0
"""Counts are at most this old where another worker exposes them."""

_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
_P_VALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

log = logging.getLogger("surprisal.metrics")

metrics_file.install()
# A second series beside every counter, for its birthday, is of no use to Prometheus.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The service's metrics, on a registry of their own, so that services in one process do not share counts.

    Args:
        table: What is known of each worker; None for a service without a supervisor.
        worker: This one's place among them.
    """

    def __init__(self, table: WorkerTable | None = None, worker: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._table = _alone() if table is None else table
        self._worker = worker
        self._exposed = self._exposition()
        self._tallies: list[Tally] = []
        self._count_requests()
        self._count_records()
        self._count_drift()
        self._count_infer()
        self._show_load()
        self._show_models()

    def _count_requests(self) -> None:
        """Requests: answered, refused, how long."""
        self.requests = self._counter("http_requests", "Requests answered.", "route", "method", "status")
        self.duration = self._histogram(
            "http_request_duration_seconds", "Seconds from a request's head to its answer's.", _SECONDS, "route"
        )
        self.rejected = self._counter("rejected", "Requests refused, by the error's slug.", "reason")

    def _count_records(self) -> None:
        """Records and the stages that they pass."""
        self.records = self._counter("records", "Records scored.", "model", "version")
        self.anomalies = self._counter(
            "anomalies", "Records flagged at the bundle's false-alarm rate.", "model", "version"
        )
        self.stage = self._histogram("stage_duration_seconds", "Seconds by stage of a request.", _SECONDS, "stage")
        self.batch_records = self._histogram("batch_records", "Records in a batch.", _RECORDS)
        self.p_value = self._histogram("p_value", "P-values; flat = calibrated.", _P_VALUES, "model", "version")

    def _count_drift(self) -> None:
        """Records by field and bin, shadows and loads."""
        by_field = ("model", "version", "field")
        self.field_bins = self._plain("field_bin", "Records by field and bin.", *by_field, "bin")
        self.missing = self._plain("missing", "Records without a field.", *by_field)
        self.unknown_category = self._plain("unknown_category", "Records with a category never seen.", *by_field)
        self.field_reference = self._gauge(
            "field_reference_ratio",
            "Share of the training rows by field and bin.",
            "livemax",
            *by_field,
            "bin",
            "place",
        )
        self.shadow_left_out = self._counter(
            "shadow_left_out", "Requests that a shadow did not score, by reason.", "model", "version", "reason"
        )
        self.reloads = self._counter("reloads", "Attempts to load a version.", "model", "result")
        self.batches = self._counter("batches", "Batches that ran.", "model", "version")

    def _count_infer(self) -> None:
        """The Open Inference Protocol."""
        self.infer_requests = self._counter(
            "infer_requests", "Requests to infer of the Open Inference Protocol.", "model", "version", "result"
        )
        self.infer_seconds = self._counter(
            "infer_seconds", "Seconds that these requests took, by phase.", "model", "version", "phase"
        )

    def _show_load(self) -> None:
        """What is going on in this worker now."""
        self.last_batch: dict[tuple[str, str], float] = {}
        """Unix time of the last batch in this worker, in seconds, by model and version."""
        self._last_batch = self._gauge(
            "last_batch_timestamp_seconds", "When the last batch ran.", "max", "model", "version"
        )
        self.in_progress = 0
        """Requests being answered by this worker."""
        self.queued: dict[tuple[str, str], int] = {}
        """Records that wait for a batch in this worker, by model and version."""
        self._in_progress = self._gauge(
            "requests_in_progress", "Requests being answered, those for metrics apart.", "livesum"
        )
        self._queue_records = self._gauge(
            "queue_records", "Records waiting for a batch.", "livesum", "model", "version"
        )
        self._memory = self._gauge("resident_memory_bytes", "Resident memory of the largest worker.", "livemax")

    def _show_models(self) -> None:
        """Versions, in service and refused."""
        self.model_info = self._gauge(
            "model_info",
            "1 for a version in service, 0 for a retired one.",
            "livemax",
            "model",
            "version",
            "digest",
            "device",
            "provider",
        )
        self.model_shadow = self._gauge(
            "model_shadow",
            "1 for a version that is tried out beside the one in service.",
            "livemax",
            "model",
            "version",
        )
        self.model_refused = self._gauge(
            "model_refused", "1 while the version that should be served is refused.", "livemax", "model"
        )
        self.false_alarm_ratio = self._gauge(
            "model_false_alarm_ratio", "Share of normal records that a version flags.", "livemax", "model", "version"
        )
        self.model_created = self._gauge(
            "model_created_timestamp_seconds", "When the version was trained.", "livemax", "model", "version"
        )
        self.model_loaded = self._gauge(
            "model_loaded_timestamp_seconds", "When the version was first loaded.", "livemin", "model", "version"
        )

    def attach(self, tally: Tally) -> None:
        """From now on something else is flushed as well."""
        self._tallies.append(tally)

    def detach(self, tally: Tally) -> None:
        """Flush it a last time; a second call does no harm."""
        if tally in self._tallies:
            self._tallies.remove(tally)
        tally.flush()

    def expect(self, provider: str) -> None:
        """Say which execution provider of ONNX Runtime models should run on."""
        self._gauge("expected_provider_info", "1 for the provider that is expected.", "livemax", "provider").labels(
            provider
        ).set(1)

    def flush(self) -> None:
        """Hand what was counted to prometheus_client."""
        for tally in self._tallies:
            tally.flush()
        self._in_progress.set(self.in_progress)
        for labels, rows in self.queued.items():
            self._queue_records.labels(*labels).set(rows)
        for labels, seconds in self.last_batch.items():
            self._last_batch.labels(*labels).set(seconds)
        if (resident := _resident_bytes()) is not None:
            self._memory.set(resident)
        self._copy()

    def expose(self) -> bytes:
        """All metrics of all workers in Prometheus' text format."""
        # The request that asks for them is no load, and would stay on show in the eyes of the other workers.
        self.in_progress -= 1
        try:
            self.flush()
        finally:
            self.in_progress += 1
        return generate_latest(self._exposed)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What `expose` shows, of all workers: each sample's name, labels and value."""
        self.flush()
        for family in self._exposed.collect():
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples of all workers.

        Args:
            name: As it is exposed, `surprisal_records_total` for example.
            labels: Those that the samples must have, among others; samples that lack one are left out.
        """
        return sum(
            value for sample, given, value in self.samples() if sample == name and labels.items() <= given.items()
        )

    def _copy(self) -> None:
        """Show the other workers what was counted; where that fails, count on, and say so once."""
        fault = metrics_file.copy_all()
        unshared = self._table.unshared[self._worker]
        if fault is not None and not unshared:
            text = "not all that this worker counts can be shared, and it serves on: %s: %s"
            log.error(text, fault.filename, fault.strerror)
        elif fault is None and unshared:
            log.warning("all that this worker counts is shared again")
        self._table.unshared[self._worker] = fault is not None

    def _exposition(self) -> CollectorRegistry:
        """What is shown: the workers' own registry is enough where they share no folder."""
        folder = os.environ.get(METRICS_FOLDER)
        exposed = self.registry
        if folder is not None:
            exposed = CollectorRegistry()
            exposed.register(metrics_file.SharedCounts(Path(folder), alone=self._table.workers == 1))
        exposed.register(_OfWorkers(self._table))
        return exposed

    def _plain(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"surprisal_{name}", help_text, labels, registry=self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> TallyCounter:
        counter = TallyCounter(self._plain(name, help_text, *labels))
        self._tallies.append(counter)
        return counter

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> TallyHistogram:
        histogram = Histogram(f"surprisal_{name}", help_text, labels, buckets=bounds, registry=self.registry)
        tally = TallyHistogram(histogram, bounds)
        self._tallies.append(tally)
        return tally

    def _gauge(self, name: str, help_text: str, mode: str, *labels: str) -> Gauge:
        # By mode, what workers that have died once said is left out.
        return Gauge(f"surprisal_{name}", help_text, labels, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]


class _OfWorkers:
    """What the supervisor knows of the workers, shown by each of them."""

    def __init__(self, table: WorkerTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield GaugeMetricFamily("surprisal_workers", "Workers that answer.", self._table.ready)
        replaced = CounterMetricFamily(
            "surprisal_worker_restarts", "Workers that were replaced, by reason.", labels=["reason"]
        )
        for reason, times in self._table.replaced.items():
            replaced.add_metric([reason], times)
        yield replaced
        unshared = float(any(self._table.unshared))
        yield GaugeMetricFamily(
            "surprisal_metrics_unshared", "1 while some worker's counts are not in here in full.", unshared
        )


def _alone() -> WorkerTable:
    """The table of a service that is one process, and answers."""
    file = new_file(1)
    table = WorkerTable(file)
    os.close(file)
    table.ready = 1
    return table


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
