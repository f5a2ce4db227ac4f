"""Why a record is strange, and what would have been normal: the module that becomes `explainer.onnx`."""

import torch
from torch import Tensor, nn

from training.likelihoods import categorical
from training.objectives import kl_to_prior
from training.vae import VAE

ROUNDS = 5
"""How often a field that is hidden from the encoder is filled in with what the decoder expects and encoded again.
Nothing tells a network that never met this field missing that it is: at first it takes the field's mean for a value."""


class Explainer(nn.Module):
    """The surprisal of each field, and the value that the other fields lead to expect.

    Args:
        vae: The trained model.
    """

    hidden: Tensor
    slots: Tensor

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae
        likelihood = vae.likelihood
        self.numeric, self.boolean = likelihood.numeric.fields, likelihood.booleans
        # (fields, 1, width): 1 where the network's input is of that field.
        self.register_buffer("hidden", vae.preprocess.owners().unsqueeze(1))
        # (categorical fields, 1, 1, S): 1 where a slot is of that field.
        owner = torch.arange(len(likelihood.sizes)).unsqueeze(1) == likelihood.slot_column
        self.register_buffer("slots", owner.float()[:, None, None, :])
        there = {
            "expected_numeric": self.numeric,
            "expected_deviation": self.numeric,
            "expected_boolean": self.boolean,
            "expected_categorical": len(likelihood.sizes),
        }
        self.names = ("field_surprisal", "kl", *(name for name, count in there.items() if count))

    def forward(self, record: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, ...]:
        """Explain B records with L draws.

        Args:
            record: The bundle's record tensors, B records.
            noise: eps, (L, K) float32.

        Returns:
            In the order of `names`, float32: -1/L sum_l log p(x_j|z_l) of each field, by kind, with the term of being
            missing or not (B, fields), and KL(q(z|x) || p(z)) (B,), in nats, which add up to the negative ELBO; then,
            with each field hidden from the encoder, mean and standard deviation of each number in standardised units
            (B, F), the probability of true (B, G), and of each categorical slot (B, S).

        Reference:
            Rezende, Mohamed & Wierstra 2014, Appendix F (filling in what is missing by encoding again).
        """
        vae = self.vae
        batch = vae.standardise(record)
        posterior = vae.posterior(batch)
        log_prob = vae.likelihood.log_prob(batch, vae.decode(vae.draw(posterior, noise))).mean(dim=1)
        surprisal = -(log_prob + vae.likelihood.log_prob_of_gaps(batch))
        return surprisal, kl_to_prior(posterior), *self._expected(vae.preprocess(batch), noise)

    def _expected(self, inputs: Tensor, noise: Tensor) -> list[Tensor]:
        vae = self.vae
        shown = inputs * (1.0 - self.hidden)  # (fields, B, width): each field hidden in turn
        filled = shown
        for _ in range(ROUNDS):
            guess = vae.expected_inputs(vae.decode(vae.encode(filled).mean))
            filled = shown + guess * self.hidden
        posterior = vae.encode(filled)
        deviation = torch.exp(0.5 * posterior.log_variance)
        # (fields, B, L, …)
        parameters = vae.decode(posterior.mean.unsqueeze(-2) + deviation.unsqueeze(-2) * noise)
        expected = []
        if self.numeric:
            own = torch.eye(self.numeric, device=inputs.device)[:, None, None, :]
            means = (parameters.numeric_mean[: self.numeric] * own).sum(dim=0)
            variances = torch.exp(parameters.numeric_log_variance.expand_as(parameters.numeric_mean)[: self.numeric])
            mean = means.mean(dim=1)
            within, between = (variances * own).sum(dim=0).mean(dim=1), (means - mean.unsqueeze(1)).square().mean(dim=1)
            expected += [mean, torch.sqrt(within + between)]
        if self.boolean:
            own = torch.eye(self.boolean, device=inputs.device)[:, None, None, :]
            logits = parameters.boolean_logits[self.numeric : self.numeric + self.boolean]
            expected.append((torch.sigmoid(logits) * own).sum(dim=0).mean(dim=1))
        if sizes := vae.likelihood.sizes:
            logits = parameters.categorical_logits[self.numeric + self.boolean :]
            expected.append((torch.exp(categorical(logits, sizes)) * self.slots).sum(dim=0).mean(dim=1))
        return expected
