"""What a VAE is made of, as far as it is the same of tables and of images."""

from collections.abc import Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

from training.network.batch import Batch

BatchT = TypeVar("BatchT", bound=Batch)
"""Records as the networks take them: `Standardised` or `Images`."""
ParametersT = TypeVar("ParametersT", bound=tuple[Tensor, ...])
"""Parameters of p(x|z): `Parameters` or `ImageParameters`."""
_Weighed = TypeVar("_Weighed", bound=Batch, contravariant=True)


class Preprocess(Protocol[BatchT]):
    """From a bundle's record tensors to the network's input: a module."""

    def standardise(self, record: Mapping[str, Tensor]) -> BatchT:
        """The record tensors of B records as a batch."""

    def __call__(self, batch: BatchT) -> Tensor:
        """What the encoder sees of B records, (B, width) or (B, C, H, W) float32."""


class Likelihood(Protocol[_Weighed, ParametersT]):
    """p(x|z): a module."""

    @property
    def fields(self) -> int:
        """Of a record."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Of what `decoder.onnx` gives."""

    def __call__(self, raw: Tensor) -> ParametersT:
        """Parameters of p(x|z) from what the decoder's last layer gives, any leading shape."""

    def spread(self, parameters: ParametersT) -> tuple[Tensor, ...]:
        """Parameters in the order of `parameter_names`; what is fixed is repeated for every record."""

    def log_prob(self, batch: _Weighed, parameters: ParametersT) -> Tensor:
        """log p(x_j | z_l) of parameters (B, L, …), (B, L, fields) nats; 0 where the value is missing."""

    def log_prob_of_records(self, batch: _Weighed, parameters: ParametersT) -> Tensor:
        """log p(x | z_l) of parameters (L, B, …), (L, B) nats, with the terms of what is missing."""

    def log_prob_of_gaps(self, batch: _Weighed) -> Tensor:
        """log p(missing or not) of each field, (B, fields) nats."""


class Parts(NamedTuple, Generic[BatchT, ParametersT]):
    """What a VAE of one modality is made of; see `training.modality`.

    Args:
        preprocess: From record tensors to a batch (`standardise`), and from a batch to what the encoder sees.
        likelihood: From the decoder's last layer to the parameters of p(x|z), and the log-probabilities by them.
        encoder: From what it sees to 2 K numbers, means and log-variances; or to the K of a code.
        decoder: From z to the likelihood's raw parameters.
        latent_size: K.
        widest: Numbers of one record in the widest layer.
        large: Whether a record costs as much as many rows of a table.
    """

    preprocess: Preprocess[BatchT]
    likelihood: Likelihood[BatchT, ParametersT]
    encoder: nn.Sequential
    decoder: nn.Sequential
    latent_size: int
    widest: int
    large: bool
