"""Every metric of the service (`surprisal_…`, base units), right across workers, which share a folder."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

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
from service.telemetry import metric_table, metrics_file
from service.telemetry.metric_table import Row
from service.telemetry.tally import Tally, TallyCounter, TallyHistogram
from service.telemetry.worker_table import WorkerTable, new_file

FLUSH_SECONDS = 1.0
"""Counts are at most this old where another worker exposes them."""

_Tally = TypeVar("_Tally", TallyCounter, TallyHistogram)

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

    requests: TallyCounter
    duration: TallyHistogram
    rejected: TallyCounter
    records: TallyCounter
    anomalies: TallyCounter
    stage: TallyHistogram
    batch_records: TallyHistogram
    p_value: TallyHistogram
    field_bins: Counter
    missing: Counter
    unknown_category: Counter
    field_reference: Gauge
    shadow_left_out: TallyCounter
    reloads: TallyCounter
    batches: TallyCounter
    infer_requests: TallyCounter
    infer_seconds: TallyCounter
    last_batch_shown: Gauge
    in_progress_shown: Gauge
    queued_shown: Gauge
    memory: Gauge
    model_info: Gauge
    model_shadow: Gauge
    model_refused: Gauge
    false_alarm_ratio: Gauge
    model_created: Gauge
    model_loaded: Gauge

    def __init__(self, table: WorkerTable | None = None, worker: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._table = _alone() if table is None else table
        self._worker = worker
        self._exposed = self._exposition()
        self._tallies: list[Tally] = []
        self.last_batch: dict[tuple[str, str], float] = {}
        """Unix time of the last batch in this worker, in seconds, by model and version."""
        self.in_progress = 0
        """Requests being answered by this worker."""
        self.queued: dict[tuple[str, str], int] = {}
        """Records that wait for a batch in this worker, by model and version."""
        for rows in (metric_table.COUNTED, metric_table.LOAD, metric_table.MODELS):
            for attribute, row in rows.items():
                setattr(self, attribute, self._made(row))
        if (folder := os.environ.get(METRICS_FOLDER)) is not None:
            rows_of_gauges = (*metric_table.LOAD.values(), *metric_table.MODELS.values())
            metrics_file.reserve(Path(folder), {row.mode for row in rows_of_gauges})

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
        self._gauge(metric_table.EXPECTED_PROVIDER).labels(provider).set(1)

    def flush(self) -> None:
        """Hand what was counted to prometheus_client."""
        for tally in self._tallies:
            tally.flush()
        self.in_progress_shown.set(self.in_progress)
        for labels, rows in self.queued.items():
            self.queued_shown.labels(*labels).set(rows)
        for labels, seconds in self.last_batch.items():
            self.last_batch_shown.labels(*labels).set(seconds)
        if (resident := _resident_bytes()) is not None:
            self.memory.set(resident)
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

    def _made(self, row: Row) -> Counter | Gauge | TallyCounter | TallyHistogram:
        """A metric of this worker's own."""
        if row.kind is Gauge:
            return self._gauge(row)
        if row.kind is TallyHistogram:
            histogram = Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=self.registry)
            return self._tallied(TallyHistogram(histogram, row.buckets))
        counter = Counter(row.name, row.help, row.labels, registry=self.registry)
        return counter if row.kind is Counter else self._tallied(TallyCounter(counter))

    def _gauge(self, row: Row) -> Gauge:
        return Gauge(row.name, row.help, row.labels, registry=self.registry, multiprocess_mode=row.mode)

    def _tallied(self, tally: _Tally) -> _Tally:
        self._tallies.append(tally)
        return tally


class _OfWorkers:
    """What the supervisor knows of the workers, shown by each of them."""

    def __init__(self, table: WorkerTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        workers, restarts = metric_table.WORKERS, metric_table.WORKER_RESTARTS
        yield GaugeMetricFamily(workers.name, workers.help, self._table.ready)
        replaced = CounterMetricFamily(restarts.name, restarts.help, labels=restarts.labels)
        for reason, times in self._table.replaced.items():
            replaced.add_metric([reason], times)
        yield replaced
        unshared = float(any(self._table.unshared))
        yield GaugeMetricFamily(metric_table.UNSHARED.name, metric_table.UNSHARED.help, unshared)


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
