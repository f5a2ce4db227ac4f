"""What a run tells of each epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One finished epoch; the terms are means over records, in nats.

    Args:
        epoch: From 1.
        epochs: How many there will be at most.
        log_likelihood: Of the training records (the reconstruction term).
        kl: Of the training records.
        validation_elbo: Of the held-out records.
        validation_kl: Of the held-out records.
        best: Whether that is the best so far.
        part: Of which of several models, in words; empty where there is one.
        effective_samples: Draws of a training record, of the objective's, that carry its weight; all of them where
            draws are not weighted.
        warming: Whether the KL does not yet have its full weight; such an epoch is `best` because it is the last.
        seconds: How long the epoch took, its validation included; it does not count where two are compared.
    """

    epoch: int
    epochs: int
    log_likelihood: float
    kl: float
    validation_elbo: float
    validation_kl: float
    best: bool
    part: str = ""
    effective_samples: float = 1.0
    warming: bool = False
    seconds: float = field(default=0.0, compare=False)


EpochCallback = Callable[[Progress], None]
"""Called after every epoch."""
