"""What can stop a training run, in words for the person who started it.

TrainingError
├── ConfigInvalid    the configuration or a flag asks for something that does not exist
├── DataInvalid      the data cannot be trained on
├── NotANumber       the optimiser met a NaN or an infinity
└── ParityFailed     the exported graph does not score as the trained network does
"""


class TrainingError(Exception):
    """Base of everything that `training` raises on purpose."""


class ConfigInvalid(TrainingError):
    """The configuration or a flag asks for something that does not exist."""


class DataInvalid(TrainingError):
    """The data cannot be trained on."""


class NotANumber(TrainingError):
    """The optimiser met a NaN or an infinity; the last good checkpoint is kept."""


class ParityFailed(TrainingError):
    """The exported graph does not score as the trained network does."""
