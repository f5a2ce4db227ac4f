"""What the other fields lead to expect of one, for the few fields that a report shows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from training.explainer import ROUNDS
from training.likelihoods import categorical, split
from training.preprocess import Standardised
from training.vae import VAE

_LARGEST_RUN = 2**24  # numbers in the widest layer of one run


class Expected(NamedTuple):
    """What is expected of one field of B records, with the field hidden from the encoder.

    Args:
        values: A number's (B, 1) mean in standardised units; the (B, 1) probability that a boolean is true; a
            category's (B, codes) probabilities, unknown first. float64.
        deviation: (B,) standard deviation of a number in standardised units; 0 of other kinds.
    """

    values: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


class Expectation:
    """Computes, for a field at a time, what `training.explainer.Explainer` computes for all at once.

    All at once takes as many passes through the network as there are fields, for every record: too many to show a
    dozen of a thousand.

    Args:
        vae: The trained model.
        noise: eps, (L, K) float32.
    """

    def __init__(self, vae: VAE, noise: npt.NDArray[np.float32]) -> None:
        self.vae = vae
        self.noise = torch.from_numpy(noise)
        self.owners = vae.preprocess.owners()

    @torch.no_grad()
    def of(self, batch: Standardised, field: int) -> Expected:
        """What is expected of a field.

        Args:
            batch: B records.
            field: Its place among the fields by kind: numeric, boolean, categorical.
        """
        rows = max(1, _LARGEST_RUN // (max(self.vae.likelihood.outputs, self.vae.preprocess.width) * len(self.noise)))
        values, deviations = zip(*(self._piece(piece, field) for piece in batch.pieces(rows)), strict=True)
        return Expected(torch.cat(values).double().numpy(), torch.cat(deviations).double().numpy())

    def _piece(self, batch: Standardised, field: int) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.vae
        hidden = self.owners[field]
        shown = vae.preprocess(batch) * (1.0 - hidden)
        filled = shown
        for _ in range(ROUNDS):
            guess = vae.expected_inputs(vae.decode(vae.encode(filled).mean))
            filled = shown + guess * hidden
        parameters = vae.decode(vae.draw(vae.encode(filled), self.noise))
        numbers, booleans = vae.likelihood.numeric.fields, vae.likelihood.booleans
        none = torch.zeros(batch.rows)
        if field < numbers:
            means = parameters.numeric_mean[..., field]
            variances = torch.exp(parameters.numeric_log_variance.expand_as(parameters.numeric_mean)[..., field])
            spread = variances.mean(dim=1) + means.var(dim=1, correction=0)
            return means.mean(dim=1, keepdim=True), torch.sqrt(spread)
        if field < numbers + booleans:
            return torch.sigmoid(parameters.boolean_logits[..., field - numbers]).mean(dim=1, keepdim=True), none
        probabilities = torch.exp(categorical(parameters.categorical_logits, vae.likelihood.sizes))
        return split(probabilities, vae.likelihood.sizes)[field - numbers - booleans].mean(dim=1), none
