"""Statistics in Triton's JSON form, summed over all workers: they are read off the metrics."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from service.exchange.dialect import Spent
from service.models.served_model import ServedModel
from service.telemetry.metrics import Metrics

Phase = Literal["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"]

PHASES: tuple[Phase, ...] = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")

_Key = tuple[str, str, str, str]


class InferStatistics:
    """Counts the requests of this protocol, and tells what was counted.

    `inference_count` and `execution_count` are the model's records and batches over every route, `inference_stats`
    the requests to `infer` alone.

    Args:
        metrics: Where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def succeeded(self, model: ServedModel, spent: Spent) -> None:
        """Count a request that was answered.

        Args:
            model: Which answered.
            spent: Where its seconds went.
        """
        labels = (model.name, str(model.version))
        self._metrics.infer_requests.labels(*labels, "success").inc()
        seconds = self._metrics.infer_seconds
        seconds.labels(*labels, "success").inc(spent.total)
        seconds.labels(*labels, "queue").inc(spent.scoring.queue)
        seconds.labels(*labels, "compute_input").inc(spent.decoding)
        seconds.labels(*labels, "compute_infer").inc(spent.scoring.infer)
        seconds.labels(*labels, "compute_output").inc(spent.encoding)

    def failed(self, model: ServedModel, total: float) -> None:
        """Count a request that was refused or went wrong after its model was found.

        Args:
            model: Which was asked.
            total: Seconds from the request's body to the refusal.
        """
        labels = (model.name, str(model.version), "fail")
        self._metrics.infer_requests.labels(*labels).inc()
        self._metrics.infer_seconds.labels(*labels).inc(total)

    def of(self, models: Sequence[ServedModel]) -> dict[str, Any]:
        """The answer of `GET /v2/models/NAME/stats`.

        Args:
            models: Those asked about.
        """
        found: defaultdict[_Key, float] = defaultdict(float)
        for name, labels, value in self._metrics.samples():
            if "model" in labels and "version" in labels:
                which = labels.get("result", labels.get("phase", ""))
                found[name, labels["model"], labels["version"], which] += value
        return {"model_stats": [_model(found, model.name, str(model.version)) for model in models]}


def _model(found: dict[_Key, float], name: str, version: str) -> dict[str, Any]:
    def value(metric: str, which: str = "") -> float:
        return found[f"surprisal_{metric}", name, version, which]

    def duration(phase: Phase) -> dict[str, int]:
        result = "fail" if phase == "fail" else "success"
        count = round(value("infer_requests_total", result))
        return {"count": count, "ns": round(value("infer_seconds_total", phase) * 1e9)}

    return {
        "name": name,
        "version": version,
        "last_inference": round(value("last_batch_timestamp_seconds") * 1e3),
        "inference_count": round(value("records_total")),
        "execution_count": round(value("batches_total")),
        "inference_stats": {
            **{phase: duration(phase) for phase in PHASES},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": [],
    }
