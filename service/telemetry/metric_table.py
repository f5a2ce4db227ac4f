"""Every metric, a row each: metrics and docs/reference/metrics.md are made from these rows."""

from typing import Literal, NamedTuple

from prometheus_client import Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from service.telemetry.tally import TallyCounter, TallyHistogram

Kind = (
    type[Counter]
    | type[TallyCounter]
    | type[TallyHistogram]
    | type[Gauge]
    | type[CounterMetricFamily]
    | type[GaugeMetricFamily]
)
"""What a metric is kept in: a family where it is not kept at all, but asked for when it is shown."""
Mode = Literal["max", "livemax", "livemin", "livesum"]
"""What is shown of several workers' gauges; with `live`, what workers that have died once said is left out."""

PREFIX = "surprisal_"
_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
_P_VALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_VERSION = ("model", "version")
_FIELD = (*_VERSION, "field")


class Row(NamedTuple):
    """One metric.

    Args:
        kind: What it is kept in.
        base: Its name, without what all have before it and counters behind it.
        help: What it says.
        labels: By what it is counted.
        buckets: Of a histogram: upper bounds, without infinity.
        mode: Of a gauge: what is shown of several workers'.
    """

    kind: Kind
    base: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Mode = "livemax"

    @property
    def name(self) -> str:
        """As prometheus_client is told it."""
        return PREFIX + self.base

    @property
    def type(self) -> str:
        """As Prometheus calls it."""
        if self.kind is TallyHistogram:
            return "histogram"
        return "gauge" if self.kind in (Gauge, GaugeMetricFamily) else "counter"

    @property
    def exposed(self) -> str:
        """As it is shown."""
        return f"{self.name}_total" if self.type == "counter" else self.name


COUNTED: dict[str, Row] = {
    "requests": Row(TallyCounter, "http_requests", "Requests answered.", ("route", "method", "status")),
    "duration": Row(
        TallyHistogram,
        "http_request_duration_seconds",
        "Seconds from a request's head to its answer's.",
        ("route",),
        _SECONDS,
    ),
    "rejected": Row(TallyCounter, "rejected", "Requests refused, by the error's slug.", ("reason",)),
    "records": Row(TallyCounter, "records", "Records scored.", _VERSION),
    "anomalies": Row(TallyCounter, "anomalies", "Records flagged at the bundle's false-alarm rate.", _VERSION),
    "stage": Row(TallyHistogram, "stage_duration_seconds", "Seconds by stage of a request.", ("stage",), _SECONDS),
    "batch_records": Row(TallyHistogram, "batch_records", "Records in a batch.", (), _RECORDS),
    "p_value": Row(TallyHistogram, "p_value", "P-values; flat = calibrated.", _VERSION, _P_VALUES),
    "field_bins": Row(Counter, "field_bin", "Records by field and bin.", (*_FIELD, "bin")),
    "missing": Row(Counter, "missing", "Records without a field.", _FIELD),
    "unknown_category": Row(Counter, "unknown_category", "Records with a category never seen.", _FIELD),
    "field_reference": Row(
        Gauge,
        "field_reference_ratio",
        "Share of the training rows by field and bin.",
        (*_FIELD, "bin", "place"),
    ),
    "shadow_left_out": Row(
        TallyCounter,
        "shadow_left_out",
        "Requests that a shadow did not score, by reason.",
        (*_VERSION, "reason"),
    ),
    "reloads": Row(TallyCounter, "reloads", "Attempts to load a version, of each worker.", ("model", "result")),
    "batches": Row(TallyCounter, "batches", "Batches that ran.", _VERSION),
    "infer_requests": Row(
        TallyCounter,
        "infer_requests",
        "Requests to infer of the Open Inference Protocol.",
        (*_VERSION, "result"),
    ),
    "infer_seconds": Row(
        TallyCounter, "infer_seconds", "Seconds that these requests took, by phase.", (*_VERSION, "phase")
    ),
}
"""What has happened so far, by its attribute of `Metrics`."""

LOAD: dict[str, Row] = {
    "last_batch_shown": Row(Gauge, "last_batch_timestamp_seconds", "When the last batch ran.", _VERSION, mode="max"),
    "in_progress_shown": Row(
        Gauge, "requests_in_progress", "Requests being answered, those for metrics apart.", mode="livesum"
    ),
    "queued_shown": Row(Gauge, "queue_records", "Records waiting for a batch.", _VERSION, mode="livesum"),
    "memory": Row(Gauge, "resident_memory_bytes", "Resident memory of the largest worker."),
}
"""What is going on in a worker now, by its attribute of `Metrics`."""

WORKERS = Row(GaugeMetricFamily, "workers", "Workers that answer.")
WORKER_RESTARTS = Row(CounterMetricFamily, "worker_restarts", "Workers that were replaced, by reason.", ("reason",))
UNSHARED = Row(GaugeMetricFamily, "metrics_unshared", "1 while some worker's counts are not in here in full.")

MODELS: dict[str, Row] = {
    "model_info": Row(
        Gauge,
        "model_info",
        "1 for a version in service, 0 for a shadow or a retired one.",
        (*_VERSION, "digest", "device", "provider"),
    ),
    "model_shadow": Row(
        Gauge, "model_shadow", "1 for a version that is tried out beside the one in service.", _VERSION
    ),
    "model_refused": Row(Gauge, "model_refused", "1 while the version that should be served is refused.", ("model",)),
    "false_alarm_ratio": Row(
        Gauge,
        "model_false_alarm_ratio",
        "False-alarm rate that the version was calibrated for; a setting, not measured.",
        _VERSION,
    ),
    "model_created": Row(Gauge, "model_created_timestamp_seconds", "When the version was trained.", _VERSION),
    "model_loaded": Row(
        Gauge,
        "model_loaded_timestamp_seconds",
        "When the version last came into service; a shadow has none.",
        _VERSION,
        mode="livemin",
    ),
}
"""Versions, in service and refused, by their attribute of `Metrics`."""

EXPECTED_PROVIDER = Row(Gauge, "expected_provider_info", "1 for the provider that is expected.", ("provider",))
"""Shown only where one is expected."""

EVERY = (
    *COUNTED.values(),
    *LOAD.values(),
    WORKERS,
    WORKER_RESTARTS,
    UNSHARED,
    *MODELS.values(),
    EXPECTED_PROVIDER,
)
"""All rows, in the order in which they are documented."""
