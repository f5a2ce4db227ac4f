"""What the other fields lead to expect of one, for the few fields that a report shows."""

import numpy as np
import numpy.typing as npt
import torch

from bundle.contents.explanation import ROUNDS
from training.network.densities import categorical, split
from training.table.batch import Standardised
from training.table.explainer import expected_inputs
from training.table.vae import TableVAE

_LARGEST_RUN = 2**24  # numbers in the widest layer of one run


class Expectation:
    """Computes, for a field at a time, what `training.table.explainer.TableExplainer` computes for all at once.

    All at once takes as many passes through the network as there are fields, for every record: too many to show a
    dozen of a thousand.

    Args:
        vae: The trained model.
        noise: eps, (L, K) float32.
    """

    def __init__(self, vae: TableVAE, noise: npt.NDArray[np.float32]) -> None:
        self.vae = vae
        self.noise = torch.from_numpy(noise)
        self.owners = vae.preprocess.owners()

    @torch.no_grad()
    def of(self, batch: Standardised, field: int) -> npt.NDArray[np.float64]:
        """What is expected of one field, with that field hidden from the encoder.

        Args:
            batch: B records.
            field: Its place among the fields by kind: numeric, boolean, categorical.

        Returns:
            A number's (B, 1) mean in standardised units; the (B, 1) probability that a boolean is true; a category's
            (B, codes) probabilities, unknown first.
        """
        rows = max(1, _LARGEST_RUN // (max(self.vae.likelihood.outputs, self.vae.preprocess.width) * len(self.noise)))
        found: npt.NDArray[np.float64] = torch.cat([self._piece(piece, field) for piece in batch.pieces(rows)]).numpy()
        return found

    def _piece(self, batch: Standardised, field: int) -> torch.Tensor:
        vae = self.vae
        hidden = self.owners[field]
        shown = vae.preprocess(batch) * (1.0 - hidden)
        filled = shown
        for _ in range(ROUNDS):
            guess = expected_inputs(vae, vae.decode(vae.encode(filled).mean))
            filled = shown + guess * hidden
        parameters = vae.decode(vae.draw(vae.encode(filled), self.noise))
        numbers, booleans = vae.likelihood.numeric.fields, vae.likelihood.booleans
        if field < numbers:
            means: torch.Tensor = parameters.numeric_mean[..., field]
            return means.mean(dim=1, keepdim=True).double()
        if field < numbers + booleans:
            logits: torch.Tensor = parameters.boolean_logits[..., field - numbers]
            return torch.sigmoid(logits).mean(dim=1, keepdim=True).double()
        probabilities = torch.exp(categorical(parameters.categorical_logits, vae.likelihood.sizes))
        own: torch.Tensor = split(probabilities, vae.likelihood.sizes)[field - numbers - booleans]
        return own.mean(dim=1).double()
