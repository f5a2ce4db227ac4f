"""The anomaly scores and likelihoods that a bundle may have, each with its unit, its formula and its source."""

from collections.abc import Collection
from typing import Literal

from bundle.record.fields import Frozen
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

AnomalyScore = Literal[
    "combined",
    "neighbours",
    "typicality",
    "texture",
    "complexity",
    "reconstruction",
    "expected_log_likelihood",
    "elbo",
    "iwae",
]


class Score(Frozen):
    """An anomaly score: `sign` times the graph's `output`, so that higher is stranger.

    `unit` is what one of it means, `definition` its formula, `source` the paper that it is from.
    """

    name: AnomalyScore
    output: str
    sign: Literal[-1, 1]
    unit: str
    definition: str
    source: str


_LIKELIHOOD_SCORES: tuple[Score, ...] = (
    Score(
        name="elbo",
        output="elbo",
        sign=-1,
        unit="nats",
        definition="-(1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)))",
        source="Kingma & Welling 2014, eq. 10",
    ),
    Score(
        name="reconstruction",
        output="log_reconstruction_probability",
        sign=-1,
        unit="nats",
        definition="-log(1/L sum_l p(x|z_l))",
        source="An & Cho 2015, Algorithm 4",
    ),
    Score(
        name="iwae",
        output="iwae",
        sign=-1,
        unit="nats",
        definition="-log(1/L sum_l p(x, z_l) / q(z_l|x))",
        source="Burda et al. 2016, eq. 8",
    ),
    Score(
        name="expected_log_likelihood",
        output="expected_log_likelihood",
        sign=-1,
        unit="nats",
        definition="-1/L sum_l log p(x|z_l)",
        source="Kingma & Welling 2014, eq. 7, second term",
    ),
)


TABLE_SCORES: tuple[Score, ...] = (
    Score(
        name="combined",
        output="combined",
        sign=1,
        unit="robust deviations, compressed",
        definition="mean of -expected_log_likelihood, as asinh((s - median) / (1.4826 MAD)), and, twofold, neighbours",
        source="medians and deviations of held-out normal records (Rousseeuw & Croux 1993)",
    ),
    Score(
        name="neighbours",
        output="neighbours",
        sign=1,
        unit="robust deviations, compressed",
        definition="mean of asinh((d - median) / (1.4826 MAD)) of the distances d to a coreset, in two spaces",
        source="Ramaswamy, Rastogi & Shim 2000; Sugiyama & Borgwardt 2013",
    ),
    Score(
        name="typicality",
        output="typicality",
        sign=1,
        unit="Mahalanobis distance",
        definition="of log-likelihood, KL, |x - x_hat|, |mu|, |sigma| and decoder scale from those of normal records",
        source="Nalisnick et al. 2019; Morningstar et al. 2021",
    ),
    *_LIKELIHOOD_SCORES,
)
"""Every score of a table's records, from the same draws."""


IMAGE_SCORES: tuple[Score, ...] = (
    Score(
        name="combined",
        output="combined",
        sign=1,
        unit="robust deviations",
        definition="mean of (s - median) / (1.4826 MAD) of complexity, typicality and texture",
        source="medians and deviations of held-out normal images (Rousseeuw & Croux 1993)",
    ),
    Score(
        name="neighbours",
        output="neighbours",
        sign=1,
        unit="robust deviations, compressed",
        definition="asinh((d - median) / (1.4826 MAD)) of the distance d of the latent mean to a coreset",
        source="Ramaswamy, Rastogi & Shim 2000; Sugiyama & Borgwardt 2013",
    ),
    Score(
        name="typicality",
        output="typicality",
        sign=1,
        unit="Mahalanobis distance",
        definition="of log-likelihood, KL, |x - x_hat|, |mu|, |sigma|, decoder scale and code length from those "
        "of normal images",
        source="Nalisnick et al. 2019; Morningstar et al. 2021",
    ),
    Score(
        name="texture",
        output="texture",
        sign=1,
        unit="Mahalanobis distance",
        definition="of log mean square differences of neighbouring levels, along and across, at full size, a half, a "
        "quarter and an eighth",
        source="Lee et al. 2018 for the distance",
    ),
    Score(
        name="complexity",
        output="complexity",
        sign=1,
        unit="bits",
        definition="-elbo / log 2 less the image's code length, the sum of 2 log2(1 + |r|) + 1 over residuals r of the "
        "median edge predictor",
        source="Serrà et al. 2020, eq. 1; Weinberger, Seroussi & Sapiro 2000 for the predictor",
    ),
    *_LIKELIHOOD_SCORES,
)
"""Every score of images, from the same draws."""


LIKELIHOODS = {
    "gaussian": "density of the standardised value; variance learned, from minimum_scale up",
    "student-t": "density of the standardised value; scale learned, from minimum_scale up; degrees_of_freedom fixed",
    "fixed-gaussian": "density of the standardised value; standard deviation fixed_scale",
    "bernoulli": "probability",
    "categorical": "probability over the vocabulary and unknown",
    "missing": "probability that the field is missing, missing_rate, added for every field",
}
"""What one nat means, by kind of likelihood of a table's fields."""


DENSITY_OF = {
    "none": "(x - mean) / scale",
    "log": "(log(x + offset) - mean) / scale; below x = 0 (log(offset) + x / offset - mean) / scale",
}
"""The standardised value of a number x, by the field's transform. Scores are densities of it and leave out its slope,
which would add how far a field is spread to how strange its value is."""


IMAGE_LIKELIHOODS = {
    "discretised-logistic": "probability of the levels: mass of a logistic between half levels; scale learned",
    "bernoulli": "probability of levels that are 0 or 255",
    "continuous-bernoulli": "density of level / 255",
    "gaussian": "density of the level; variance learned, from minimum_scale up",
    "fixed-gaussian": "density of the level; standard deviation fixed_scale",
}
"""What one nat means, by kind of likelihood of an image."""


_CROSS_ENTROPY = (
    "cross-entropy of level / 255, the negative of it: no probability, since levels between 0 and 255 occur"
)


def likelihoods_of(record: RecordSchema) -> dict[str, str]:
    """What one nat means, by kind of likelihood."""
    match record:
        case TableSchema():
            return LIKELIHOODS
        case ImageSchema(field=field):
            grey = field.likelihood == "bernoulli" and not field.binary
            return {field.likelihood: _CROSS_ENTROPY if grey else IMAGE_LIKELIHOODS[field.likelihood]}


def density_of(record: RecordSchema) -> dict[str, str] | None:
    """The standardised value that a number's density is one of, by transform; None of an image."""
    match record:
        case TableSchema():
            return DENSITY_OF
        case ImageSchema():
            return None


def scores_of(record: RecordSchema, outputs: Collection[str]) -> tuple[Score, ...]:
    """The scores of a bundle, whose graph has these outputs."""
    match record:
        case TableSchema():
            every = TABLE_SCORES
        case ImageSchema():
            every = IMAGE_SCORES
    return tuple(score for score in every if score.output in outputs)
