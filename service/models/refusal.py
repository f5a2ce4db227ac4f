"""Why a version is not served, and until when that holds."""

import logging
import math
from dataclasses import dataclass, replace

from service.models.loading import Version
from service.telemetry import logs
from service.telemetry.metrics import Metrics

PAUSE_SECONDS = 300.0
"""What took too long, or too much memory, is tried again after this long, at first: the disk may have been slow."""
LONGEST_PAUSE_SECONDS = 3600.0

log = logging.getLogger(logs.REFUSALS)


@dataclass(frozen=True)
class Refusal:
    """What is refused, and why.

    Args:
        seen: The folder as it was; None where the fault may be gone in a second.
        reason: What is wrong and what to do.
        pause: Seconds until it is tried again though the folder be the same.
        until: On `time.monotonic`, in seconds.
    """

    seen: object
    reason: str
    pause: float = math.inf
    until: float = math.inf

    @classmethod
    def of(cls, seen: object, error: Exception) -> "Refusal":
        """Why an error refuses a folder: what the file system refuses may be gone in a second, unlike a bundle's own.

        Args:
            seen: The folder as it was.
            error: Of the file system, or of the bundle.
        """
        passing = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
        return cls(None if passing else seen, str(error))

    def holds(self, seen: object, now: float) -> bool:
        """Whether a folder as it is now is still the one that is refused."""
        return self.seen is not None and self.seen == seen and now < self.until

    def after(self, before: "Refusal | None", now: float) -> "Refusal":
        """The same for a while, which is twice as long as that of the refusal before, if that was of the same."""
        pause = PAUSE_SECONDS
        if before is not None and before.seen == self.seen and before.pause < math.inf:
            pause = min(2 * before.pause, LONGEST_PAUSE_SECONDS)
        return replace(self, pause=pause, until=now + pause)

    def says_the_same(self, other: "Refusal | None") -> bool:
        """Whether it was said before."""
        return other is not None and (self.seen, self.reason) == (other.seen, other.reason)


class Refusals:
    """What is refused now: each new reason is logged and counted once.

    Args:
        metrics: Where it is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.models: dict[str, Refusal] = {}
        """Of the version that should be served, by model's name."""
        self.shadows: dict[str, Refusal] = {}
        """Of the version that should be tried out, by model's name."""

    def accept(self, name: str) -> None:
        """Nothing is wrong with a model, or with what should be served of it."""
        self.models.pop(name, None)
        self._metrics.model_refused.labels(name).set(0)

    def refuse(self, name: str, refusal: Refusal) -> None:
        """Refuse what should be served of a model."""
        before = self.models.get(name)
        self.models[name] = refusal
        if refusal.says_the_same(before):
            return
        self._metrics.model_refused.labels(name).set(1)
        self._metrics.reloads.labels(name, "refused").inc()
        log.error("%s is refused: %s", name, refusal.reason)

    def refuse_shadow(self, version: Version, refusal: Refusal) -> None:
        """Refuse what should be tried out."""
        before = self.shadows.get(version.name)
        self.shadows[version.name] = refusal
        if not refusal.says_the_same(before):
            self._metrics.reloads.labels(version.name, "shadow refused").inc()
            log.error("refused as a shadow, %s: %s", version, refusal.reason)
