"""What can stop a training run, in words for the person who started it.

TrainingError
├── ConfigInvalid    the configuration or a flag asks for something that does not exist
├── DataInvalid      the data cannot be trained on
├── NotANumber       the optimiser met a NaN or an infinity
├── ProcessLost      another process of the same training has ended
└── ParityFailed     an exported graph does not compute what the trained network does
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


class TrainingError(Exception):
    """Base of everything that `training` raises on purpose."""


class ConfigInvalid(TrainingError):
    """The configuration or a flag asks for something that does not exist."""


class DataInvalid(TrainingError):
    """The data cannot be trained on."""


class NotANumber(TrainingError):
    """The optimiser met a NaN or an infinity; the last good checkpoint is kept."""


class ProcessLost(TrainingError):
    """Another process of the same training has ended; the last checkpoint is kept."""


class ParityFailed(TrainingError):
    """An exported graph does not compute what the trained network does.

    Args:
        difference: Which graph, on what, and by how much.
        evidence: The records that differ and both answers, by name, as `numpy.savez` takes them.
    """

    def __init__(self, difference: str, evidence: Mapping[str, npt.NDArray[np.generic]]) -> None:
        super().__init__(difference)
        self.evidence = evidence
