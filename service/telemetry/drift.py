"""How the records that come fall into the bins of the training rows: plain counts, by which Prometheus tells drift."""

from datetime import datetime
from threading import Lock

import numpy as np

from bundle.contents.manifest import Manifest
from bundle.contents.reference import MISSING_BIN, UNKNOWN_BIN, FieldBins
from bundle.record.fields import Tensors
from service.telemetry.metrics import Metrics

COUNTED_ROWS = 1024
"""Records are counted once there are so many, or once a second: alone, one takes as long as a hundred."""
COUNTED_BYTES = 2**22
"""The same of their tensors' bytes, so that images do not pile up."""


class FieldCounts:
    """The counts of one version of a model; every bin is there, at 0, from the start.

    Args:
        manifest: Of the bundle.
        metrics: Where they go.
        model: The model's name.
        version: Its version.
    """

    def __init__(self, manifest: Manifest, metrics: Metrics, model: str, version: int) -> None:
        labels = (model, str(version))
        self._bins = FieldBins(manifest.record, manifest.reference)
        ratios = [ratio for each in manifest.reference for ratio in each.ratios]
        for place, ((field, name), ratio) in enumerate(zip(self._bins.labels, ratios, strict=True)):
            # Bounds sort by their place, not by their text.
            metrics.field_reference.labels(*labels, field, name, f"{place:06d}").set(ratio)
        self._children = [metrics.field_bins.labels(*labels, field, name) for field, name in self._bins.labels]
        counters = {MISSING_BIN: metrics.missing, UNKNOWN_BIN: metrics.unknown_category}
        self._named = [
            (index, counters[name].labels(*labels, field))
            for index, (field, name) in enumerate(self._bins.labels)
            if name in counters
        ]
        metrics.false_alarm_ratio.labels(*labels).set(manifest.false_alarm_rate)
        metrics.model_created.labels(*labels).set(datetime.fromisoformat(manifest.created).timestamp())
        self._counts = np.zeros(len(self._children), np.int64)
        self._waiting: list[Tensors] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._lock = Lock()  # batches run on the event loop or on a thread

    def add(self, rows: Tensors) -> None:
        """Count the records of a batch, soon.

        Args:
            rows: The graph's record inputs, which nobody changes.
        """
        with self._lock:
            # Copied, because a tensor may be a view of a whole body, which would stay for a second.
            self._waiting.append({kind: values.copy() for kind, values in rows.items()})
            self._waiting_rows += len(next(iter(rows.values())))
            self._waiting_bytes += sum(values.nbytes for values in rows.values())
            if self._waiting_rows >= COUNTED_ROWS or self._waiting_bytes >= COUNTED_BYTES:
                self._count()

    def flush(self) -> None:
        """Hand over what was counted since the last time."""
        with self._lock:
            self._count()
            counts, self._counts = self._counts, np.zeros_like(self._counts)
        for index in np.flatnonzero(counts).tolist():
            self._children[index].inc(int(counts[index]))
        for index, child in self._named:
            if counts[index]:
                child.inc(int(counts[index]))

    def _count(self) -> None:
        if self._waiting:
            joined = {kind: np.concatenate([rows[kind] for rows in self._waiting]) for kind in self._waiting[0]}
            self._waiting.clear()
            self._waiting_rows = self._waiting_bytes = 0
            self._counts += self._bins.count(joined)
