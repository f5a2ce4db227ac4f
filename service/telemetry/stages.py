"""How long the stages of a request took: told to the metrics, and to the request's trace."""

import time

from service.telemetry.metrics import Metrics
from service.wire.trace import CURRENT


class Stages:
    """Times what lies before and behind the batcher, which tells of the rest itself.

    Args:
        metrics: Where every stage is timed.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._stages = {name: metrics.stage.labels(name) for name in ("decode", "encode")}

    def decoded(self, started: float) -> float:
        """A body has just become tensors.

        Args:
            started: When that began, on `time.perf_counter`, in seconds.

        Returns:
            The seconds it took.
        """
        return self._ended("decode", started)

    def encoded(self, started: float) -> float:
        """Verdicts have just become a body; see `decoded`."""
        return self._ended("encode", started)

    def _ended(self, name: str, started: float) -> float:
        now = time.perf_counter()
        self._stages[name].observe(now - started)
        trace = CURRENT.get()
        if trace is not None:
            trace.stage(name, started, now)
        return now - started
