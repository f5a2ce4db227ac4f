"""Why a record is strange, and what would have been normal: the module that becomes `explainer.onnx`."""

import torch
from torch import Tensor

from bundle.contents.explanation import ROUNDS, is_wide
from bundle.record.schema import TableSchema
from training.network.densities import categorical, join
from training.network.posterior import Posterior
from training.network.scores import ExplainerModule
from training.table.batch import BOUND
from training.table.likelihood import Parameters
from training.table.vae import TableVAE


class TableExplainer(ExplainerModule):
    """The surprisal of each field, by itself and given the others, and the value that the others lead to expect.

    Args:
        vae: The trained model.
        schema: Its fields.
    """

    vae: TableVAE
    hidden: Tensor
    slots: Tensor

    def __init__(self, vae: TableVAE, schema: TableSchema) -> None:
        super().__init__(vae)
        likelihood = vae.likelihood
        self.numeric, self.boolean = likelihood.numeric.fields, likelihood.booleans
        self.fields = likelihood.fields
        self.wide = is_wide(schema)
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
        likelihoods = ("field_surprisal", "kl", "conditional_surprisal")
        self.names = (*likelihoods, *(name for name, count in there.items() if count))

    def forward(self, record: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, ...]:
        """Explain B records with L draws.

        Args:
            record: The bundle's record tensors, B records.
            noise: eps, (L, K) float32.

        Returns:
            In the order of `names`, float32: -1/L sum_l log p(x_j|z_l) of each field, by kind, with the term of being
            missing or not (B, fields), and KL(q(z|x) || p(z)) (B,), in nats, which add up to the negative ELBO;
            ELBO(x without x_j) - ELBO(x) of each field (B, fields), in nats, which estimates -log p(x_j | all others);
            then, with each field hidden from the encoder, mean and standard deviation (of scales) of each number in
            standardised units (B, F), the probability of true (B, G), and of each categorical slot (B, S).

        Reference:
            Rezende, Mohamed & Wierstra 2014, Appendix F (filling in what is missing by encoding again).
        """
        vae = self.vae
        batch = vae.standardise(record)
        posterior = vae.posterior(batch)
        log_prob = vae.likelihood.log_prob(batch, vae.decode(vae.draw(posterior, noise))).mean(dim=1)
        gaps = vae.likelihood.log_prob_of_gaps(batch)
        kl = vae.kl(posterior)
        surprisal = -(log_prob + gaps)
        if self.wide:
            noise = torch.zeros(1, vae.latent_size)
            log_prob = vae.likelihood.log_prob(batch, vae.decode(vae.draw(posterior, noise))).mean(dim=1)
        others = self._without_each(vae.preprocess(batch))
        # (fields, B, L, ...)
        deviation = torch.exp(0.5 * others.log_variance)
        parameters = vae.decode(others.mean.unsqueeze(-2) + deviation.unsqueeze(-2) * noise)
        left = vae.likelihood.log_prob(batch, parameters).mean(dim=2)
        # Field by field first: where one is far out, sums of all would leave no digits for the others.
        own = torch.eye(self.fields)[:, None, :]
        gained = (left * (1.0 - own) - log_prob).sum(dim=-1) - (vae.kl(others) - kl)
        conditional = gained.transpose(0, 1) - gaps
        return surprisal, kl, conditional, *self._expected(parameters)

    def _without_each(self, inputs: Tensor) -> Posterior:
        """q(z | x without x_j), (fields, B, K) each; `inputs` is (B, width)."""
        vae = self.vae
        filled = shown = inputs * (1.0 - self.hidden)  # (fields, B, width): each field hidden in turn
        for _ in range(ROUNDS):
            guess = expected_inputs(vae, vae.decode(vae.encode(filled).mean))
            filled = shown + guess * self.hidden
        return vae.encode(filled)

    def _expected(self, parameters: Parameters) -> list[Tensor]:
        expected = []
        if self.numeric:
            own = torch.eye(self.numeric)[:, None, None, :]
            means = (parameters.numeric_mean[: self.numeric] * own).sum(dim=0)
            variances = torch.exp(parameters.numeric_log_variance.expand_as(parameters.numeric_mean)[: self.numeric])
            mean = means.mean(dim=1)
            within, between = (variances * own).sum(dim=0).mean(dim=1), (means - mean.unsqueeze(1)).square().mean(dim=1)
            expected += [mean, torch.sqrt(within + between)]
        if self.boolean:
            own = torch.eye(self.boolean)[:, None, None, :]
            logits = parameters.boolean_logits[self.numeric : self.numeric + self.boolean]
            expected.append((torch.sigmoid(logits) * own).sum(dim=0).mean(dim=1))
        if sizes := self.vae.likelihood.sizes:
            logits = parameters.categorical_logits[self.numeric + self.boolean :]
            expected.append((torch.exp(categorical(logits, sizes)) * self.slots).sum(dim=0).mean(dim=1))
        return expected


def expected_inputs(vae: TableVAE, parameters: Parameters) -> Tensor:
    """What the encoder would see of the values that the decoder expects, with none missing.

    Args:
        vae: The model.
        parameters: Of p(x|z), any leading shape.

    Returns:
        (…, width) float32: as `Preprocess.forward`, with probabilities in place of booleans and categories.
    """
    columns = []
    if parameters.numeric_mean.shape[-1]:
        columns.append(BOUND * torch.tanh(parameters.numeric_mean / BOUND))
    if vae.likelihood.booleans:
        columns.append(2.0 * torch.sigmoid(parameters.boolean_logits) - 1.0)
    if sizes := vae.likelihood.sizes:
        probabilities = torch.exp(categorical(parameters.categorical_logits, sizes))
        columns.append(probabilities.index_select(-1, vae.likelihood.known))
    if gaps := len(vae.preprocess.gaps):
        columns.append(torch.zeros_like(columns[0][..., :1]).expand(*columns[0].shape[:-1], gaps))
    return join(columns)
