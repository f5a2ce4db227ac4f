"""Every metric of the service, on a registry of its own (`surprisal_…`, base units)."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from service.verdicts import Verdicts

_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_P_VALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# A second series beside every counter, for its birthday, is of no use to Prometheus.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The service's metrics.

    Args:
        registry: Where they are registered; each service has its own, so that tests do not share counts.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.requests = Counter(
            "surprisal_http_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.duration = Histogram(
            "surprisal_http_request_duration_seconds",
            "Seconds from head to answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge("surprisal_requests_in_progress", "Requests being answered.", registry=self.registry)
        self.rejected = Counter(
            "surprisal_rejected", "Requests refused, by the error's slug.", ("reason",), registry=self.registry
        )
        self.memory = Gauge("surprisal_resident_memory_bytes", "Resident memory of the worker.", registry=self.registry)
        self.records = Counter("surprisal_records", "Records scored.", ("model", "version"), registry=self.registry)
        self.anomalies = Counter(
            "surprisal_anomalies",
            "Records flagged at the bundle's false-alarm rate.",
            ("model", "version"),
            registry=self.registry,
        )
        self.stage = Histogram(
            "surprisal_stage_duration_seconds",
            "Seconds by stage of a request.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_records = Histogram(
            "surprisal_batch_records", "Records in a batch.", buckets=_RECORDS, registry=self.registry
        )
        self.queue_records = Gauge(
            "surprisal_queue_records", "Records waiting for a batch.", ("model", "version"), registry=self.registry
        )
        self.p_value = Histogram(
            "surprisal_p_value",
            "P-values; flat = calibrated.",
            ("model", "version"),
            buckets=_P_VALUES,
            registry=self.registry,
        )
        self.model_info = Gauge(
            "surprisal_model_info",
            "1 for a version in service, 0 for a retired one.",
            ("model", "version", "digest", "device", "provider"),
            registry=self.registry,
        )
        self.model_loaded = Gauge(
            "surprisal_model_loaded_timestamp_seconds",
            "When the version was loaded.",
            ("model", "version"),
            registry=self.registry,
        )
        self.reloads = Counter(
            "surprisal_reloads", "Attempts to load a version.", ("model", "result"), registry=self.registry
        )

    def count(self, model: str, version: int, verdicts: Verdicts) -> None:
        """Count scored records, their verdicts and their p-values."""
        labels = (model, str(version))
        self.records.labels(*labels).inc(verdicts.p_value.size)
        self.anomalies.labels(*labels).inc(int(verdicts.is_anomaly.sum()))
        histogram = self.p_value.labels(*labels)
        for p_value in verdicts.p_value.tolist():
            histogram.observe(p_value)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        self.memory.set(_resident_bytes())
        return generate_latest(self.registry)


class BatchObserver:
    """Tells the metrics what a batcher does.

    Args:
        metrics: Where it is counted.
        model: The batcher's model.
        version: Its version.
    """

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        self._queue = metrics.queue_records.labels(model, str(version))
        self._batch = metrics.batch_records
        self._waited = metrics.stage.labels("queue")
        self._ran = metrics.stage.labels("infer")

    def queued(self, rows: int) -> None:
        """Rows queued now."""
        self._queue.set(rows)

    def abandoned(self, rows: int) -> None:
        """Rows that left the queue unscored; their request's own error is counted where it is answered."""

    def waited(self, seconds: float) -> None:
        """Seconds that a piece was queued."""
        self._waited.observe(seconds)

    def batch(self, rows: int) -> None:
        """Rows of a batch that starts."""
        self._batch.observe(rows)

    def ran(self, seconds: float) -> None:
        """Seconds that a batch ran."""
        self._ran.observe(seconds)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096
