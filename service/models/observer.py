"""Tells the metrics what a batcher does."""

import time

from service.engine.verdicts import Verdicts
from service.telemetry.metrics import Metrics


class BatchObserver:
    """Tells the metrics what a batcher does.

    Args:
        metrics: Where it is counted.
        model: The batcher's model.
        version: Its version.
    """

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        self._labels = (model, str(version))
        self._queued = metrics.queued
        self._batch = metrics.batch_records.labels()
        self._waited = metrics.stage.labels("queue")
        self._ran = metrics.stage.labels("infer")
        self._records = metrics.records.labels(*self._labels)
        self._anomalies = metrics.anomalies.labels(*self._labels)
        self._p_value = metrics.p_value.labels(*self._labels)
        self._batches = metrics.batches.labels(*self._labels)
        self._last_batch = metrics.last_batch

    def queued(self, rows: int) -> None:
        """Tensors queued now."""
        self._queued[self._labels] = rows

    def abandoned(self, rows: int) -> None:
        """Tensors that left the queue unscored; their request's own error is counted where it is answered."""

    def waited(self, seconds: float) -> None:
        """Seconds that a portion was queued."""
        self._waited.observe(seconds)

    def batch(self, rows: int) -> None:
        """Tensors of a batch that starts."""
        self._batch.observe(rows)

    def ran(self, seconds: float) -> None:
        """Seconds that a batch ran."""
        self._ran.observe(seconds)
        self._batches.inc()
        self._last_batch[self._labels] = time.time()

    def answered(self, result: Verdicts) -> None:
        """What is said of a batch's records."""
        self._records.inc(len(result.table))
        self._anomalies.inc(int(result.is_anomaly.sum()))
        self._p_value.observe_all(result.p_value)


class ShadowObserver(BatchObserver):
    """The same for a version that answers nobody: its records count, its time is not the service's."""

    def waited(self, seconds: float) -> None:
        """Not a stage of a request."""

    def batch(self, rows: int) -> None:
        """Not a batch of the service's."""

    def ran(self, seconds: float) -> None:
        """Not a stage of a request."""
