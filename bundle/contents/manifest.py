"""The manifest: what a bundle holds and promises, in one JSON document."""

import hashlib
import json
from functools import cached_property
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from bundle import wording
from bundle.contents.reference import FieldBins, FieldReference
from bundle.contents.scores import LIKELIHOODS, TABLE_SCORES, AnomalyScore, Score
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.errors import ManifestInvalid, SchemaTooNew
from bundle.record.fields import Frozen
from bundle.record.schema import RecordSchema

SCHEMA_VERSION: Final = 4
"""2 since bundles may hold an explainer; those of 1 have none. 3 since a record may be an image. 4 since a
number may be transformed."""
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
        rows: Rows by part: `train`, `validation`, `calibration`, `anomalies` (evaluation only), and with
            contamination `left_out`, the likely anomalies.
        seed: Seed of the split, the network, the noise and the order of batches.
        device: Where it was trained.
        config: The whole configuration, as TOML would hold it.
        metrics: Held-out figures: `validation_elbo` (nats, of densities of standardised values, so that it compares no
            models that transform otherwise), and AUROC and average precision with labels.
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

    schema_version: Literal[1, 2, 3, 4] = SCHEMA_VERSION
    digest: str = Field(default=_NO_DIGEST, pattern="^[0-9a-f]{64}$")
    created: str
    record: RecordSchema
    reference: tuple[FieldReference, ...] = Field(description="what is usual in each field, in order")
    latent_size: int = Field(ge=1)
    likelihoods: dict[str, str] = LIKELIHOODS
    density_of: dict[str, str] | None = Field(
        default=None, description="a number's standardised value, by transform; none: an image, or (x - mean) / scale"
    )
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
        numeric = sum(field.kind == "numeric" for field in self.record.fields)
        if usual is not None and len(usual.deviations) != numeric:
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
            place, fault = wording.faults(error, cls)[0]
            raise ManifestInvalid(FILE_NAME, f"{'.'.join(map(str, place))}: {fault}; train the model again") from error
