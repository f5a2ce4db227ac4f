"""The manifest: what a bundle holds and promises, in one JSON document."""

import hashlib
import json
from collections.abc import Collection
from functools import cached_property
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from bundle.errors import ManifestInvalid, SchemaTooNew
from bundle.explanation import UsualSurprisal
from bundle.fields import Frozen, RecordSchema
from bundle.reference import FieldBins, FieldReference

SCHEMA_VERSION: Final = 3
"""2 since bundles may hold an explainer; those of 1 have none. 3 since a record may be an image."""
FILE_NAME = "manifest.json"
SIGNATURE = "manifest.sig"
"""Beside it: who vouches for it. The one file that a version may get later, so that no manifest lists it."""
MOST_BYTES = 16 * 2**20
"""A model of 2 000 fields has a manifest of 3 MiB."""
_MOST_VALUES = 2_000_000
"""Values in it, which take far more memory than their text."""
SAMPLE_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of draws that a request may ask for: powers of two keep Sobol points balanced."""

_NO_DIGEST = "0" * 64

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
        source="Kingma & Welling 2014, eq. 8, first term",
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


def likelihoods_of(record: RecordSchema) -> dict[str, str]:
    """What one nat means, by kind of likelihood."""
    if not record.image:
        return LIKELIHOODS
    field = record.image[0]
    grey = field.likelihood == "bernoulli" and not field.binary
    return {field.likelihood: _CROSS_ENTROPY if grey else IMAGE_LIKELIHOODS[field.likelihood]}


def scores_of(record: RecordSchema, outputs: Collection[str]) -> tuple[Score, ...]:
    """The scores of a bundle, whose graph has these outputs."""
    every = IMAGE_SCORES if record.image else TABLE_SCORES
    return tuple(score for score in every if score.output in outputs)


LIKELIHOODS = {
    "gaussian": "density of the standardised value (value - mean) / scale; variance learned, from minimum_scale up",
    "student-t": "density of the standardised value; scale learned, from minimum_scale up; degrees_of_freedom fixed",
    "fixed-gaussian": "density of the standardised value (value - mean) / scale; standard deviation fixed_scale",
    "bernoulli": "probability",
    "categorical": "probability over the vocabulary and unknown",
    "missing": "probability that the field is missing, missing_rate, added for every field",
}
"""What one nat means for each kind of likelihood of a table's fields, ..."""
IMAGE_LIKELIHOODS = {
    "discretised-logistic": "probability of the levels: mass of a logistic between half levels; scale learned",
    "bernoulli": "probability of levels that are 0 or 255",
    "continuous-bernoulli": "density of level / 255",
    "gaussian": "density of the level; variance learned, from minimum_scale up",
    "fixed-gaussian": "density of the level; standard deviation fixed_scale",
}
"""... and of an image."""
_CROSS_ENTROPY = (
    "cross-entropy of level / 255, the negative of it: no probability, since levels between 0 and 255 occur"
)


class CalibrationSummary(Frozen):
    """What the held-out normal records say.

    Args:
        records: How many there are, n; p-values are multiples of 1 / (n + 1).
        thresholds: By number of draws (as text): an anomaly score above it is an anomaly at the bundle's rate.
        approximate: Why the p-values are not exactly valid, a sentence a reason; empty where they are.
    """

    records: int = Field(ge=1)
    thresholds: dict[str, float]
    approximate: tuple[str, ...] = ()


class TrainingFacts(Frozen):
    """Where the model comes from.

    Args:
        data: The data file's name.
        data_sha256: Digest of its bytes.
        rows: Rows by part: `train`, `validation`, `calibration`, `anomalies` (evaluation only).
        seed: Seed of the split, the network, the noise and the order of batches.
        device: Where it was trained.
        config: The whole configuration, as TOML would hold it.
        metrics: Held-out figures: `validation_elbo` (nats), and AUROC and average precision with labels.
        packages: Versions of what took part.
    """

    data: str
    data_sha256: str
    rows: dict[str, int]
    seed: int
    device: str
    config: dict[str, object]
    metrics: dict[str, float]
    packages: dict[str, str]


class Manifest(Frozen):
    """What `manifest.json` holds.

    `digest` is the SHA-256 of the document with its own 64 digits replaced by zeros, so that it stands for the
    whole bundle: the document lists the digest of every other file.
    """

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION
    digest: str = Field(default=_NO_DIGEST, pattern="^[0-9a-f]{64}$")
    created: str
    record: RecordSchema
    reference: tuple[FieldReference, ...] = Field(description="what is usual in each field, in order")
    latent_size: int = Field(ge=1)
    likelihoods: dict[str, str] = LIKELIHOODS
    scores: tuple[Score, ...] = TABLE_SCORES
    anomaly_score: AnomalyScore
    samples: int
    sample_counts: tuple[int, ...] = SAMPLE_COUNTS
    false_alarm_rate: float = Field(gt=0, lt=1)
    calibration: CalibrationSummary
    usual_surprisal: UsualSurprisal | None = Field(default=None, description="none: no explainer")
    training: TrainingFacts
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
                raise ValueError("a file's name must not leave the bundle's folder")
        if listed := {FILE_NAME, SIGNATURE} & files.keys():
            raise ValueError(f"{' and '.join(sorted(listed))} cannot be a file that the manifest lists")
        return files

    @model_validator(mode="after")
    def _the_deciding_score_is_one_of_the_scores(self) -> "Manifest":
        if self.anomaly_score not in {score.name for score in self.scores}:
            raise ValueError("anomaly_score is none of the scores")
        if len({score.name for score in self.scores}) != len(self.scores):
            raise ValueError("scores have one name twice")
        return self

    @model_validator(mode="after")
    def _draws_are_those_of_the_noise_table(self) -> "Manifest":
        if not set(self.sample_counts) <= set(SAMPLE_COUNTS) or self.samples not in self.sample_counts:
            raise ValueError(f"samples and sample_counts are of {', '.join(map(str, SAMPLE_COUNTS))}")
        return self

    @model_validator(mode="after")
    def _every_field_has_a_reference(self) -> "Manifest":
        FieldBins(self.record, self.reference)
        return self

    @model_validator(mode="after")
    def _every_field_has_a_usual_surprisal(self) -> "Manifest":
        usual = self.usual_surprisal
        if usual is not None and {len(usual.fields), len(usual.conditional)} != {len(self.record.fields)}:
            raise ValueError("usual_surprisal is not of as many fields as there are")
        if usual is not None and len(usual.deviations) != len(self.record.numeric):
            raise ValueError("usual_surprisal is not of as many numeric fields as there are")
        return self

    @cached_property
    def score(self) -> Score:
        """The score that `anomaly_score` names."""
        return next(score for score in self.scores if score.name == self.anomaly_score)

    @cached_property
    def explained(self) -> AnomalyScore:
        """The score whose terms an explanation tells apart, whichever decides.

        It is the ELBO; of an autoencoder, which has no KL, the log-likelihood alone.
        """
        has_elbo = any(score.name == "elbo" for score in self.scores)
        return "elbo" if has_elbo else "expected_log_likelihood"

    def to_bytes(self) -> bytes:
        """The document as it is written, its digest computed."""
        blank = self.model_copy(update={"digest": _NO_DIGEST}).model_dump(mode="json")
        document = json.dumps(blank, indent=2, ensure_ascii=False, allow_nan=False).encode()
        return document.replace(_NO_DIGEST.encode(), hashlib.sha256(document).hexdigest().encode(), 1)

    @classmethod
    def from_bytes(cls, document: bytes) -> "Manifest":
        """Read a manifest and check it against its own digest.

        Args:
            document: The bytes of `manifest.json`.

        Raises:
            SchemaTooNew: `schema_version` is above this release's.
            ManifestInvalid: Damaged, or not a manifest.
        """
        if sum(map(document.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise ManifestInvalid(FILE_NAME, f"holds more than {_MOST_VALUES:,} values; train it again")
        try:
            content = json.loads(document)
            version = content["schema_version"]
            digest = str(content["digest"]).encode()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ManifestInvalid(FILE_NAME, "is not a manifest; restore the bundle or train it again") from error
        if isinstance(version, int) and version > SCHEMA_VERSION:
            reason = f"schema_version {version} is newer than {SCHEMA_VERSION}, the newest known here: upgrade"
            raise SchemaTooNew(FILE_NAME, reason)
        blank = document.replace(digest, _NO_DIGEST.encode(), 1)
        if hashlib.sha256(blank).hexdigest().encode() != digest:
            raise ManifestInvalid(FILE_NAME, "does not match its own digest; restore the bundle or train it again")
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ManifestInvalid(FILE_NAME, f"{where}: {first['msg']}") from error
