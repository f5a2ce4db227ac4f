"""The configuration of a training run: one typed tree, read from TOML, saved in the bundle."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bundle import wording
from bundle.contents.calibration import SMALLEST_RATE
from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.contents.scores import AnomalyScore
from bundle.errors import short
from bundle.record.fields import SMALLEST_SCALE, ImageLikelihood, NumericLikelihood, Transform
from reading.options import Options
from training.errors import ConfigInvalid


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Which rows and columns are used, and how the file is read."""

    label: str | None = Field(default=None, description="column that says what is normal; never a feature")
    normal: str | None = Field(
        default=None, description="the label's value in normal rows, '' where they have none; only those are trained on"
    )
    exclude: tuple[str, ...] = Field(default=(), description="columns that are no features")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="between cells; by default found by looking"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="mark of numbers that are text; by default found by looking"
    )
    encoding: str | None = Field(default=None, description="of text, as windows-1252; by default found by looking")
    header: int | None = Field(
        default=None, ge=0, description="lines down to the columns' names; 0 if there are none; by default found"
    )
    missing_values: tuple[str, ...] | None = Field(
        default=None, description='what means missing, as ["-9999"]; by default what programs write, as NA and ?'
    )
    date_format: str | None = Field(default=None, description="of timestamps that are text, as %d/%m/%Y")
    contamination: float = Field(default=0.0, ge=0, lt=0.5, description="share of the rows that may be anomalies")
    vocabulary_size: int = Field(default=100, ge=1, description="most categories a field; rarer ones are unknown")
    minimum_count: int = Field(default=2, ge=1, description="training rows that a category needs, else it is unknown")
    validation_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of rows for early stopping")
    calibration_share: float = Field(default=0.2, gt=0, lt=0.5, description="share of rows for p-values alone")
    calibration_most: int | None = Field(
        default=None, ge=1, description="most rows used for p-values; by default 10000, of images 2000"
    )

    @property
    def reading(self) -> Options:
        """What is said of how the file is written."""
        return Options(self.delimiter, self.decimal, self.encoding, self.header, self.missing_values, self.date_format)


class NetworkConfig(_Section):
    """The encoder and, mirrored, the decoder."""

    kind: Literal["dense", "residual", "fully-convolutional"] | None = Field(
        default=None, description="dense for tables, residual for images"
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(256, 128), description="widths of a dense encoder's hidden layers; none makes it linear"
    )
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(32, 64), min_length=1, description="maps of a convolutional encoder, each at half the size before"
    )
    latent_size: int | None = Field(
        default=None,
        ge=1,
        description="K; by default 1.5 times the root of a table's inputs, 32 for images; of latent maps, how many, 4",
    )
    activation: Literal["silu", "relu", "tanh"] = Field(default="silu", description="between layers")


class ObjectiveConfig(_Section):
    """The objective that training maximises."""

    kind: Literal["elbo", "importance-weighted", "doubly-reparameterised", "forward-kl", "autoencoder"] = Field(
        default="elbo", description="autoencoder: no draws and no KL, for comparison"
    )
    draws: int = Field(default=1, ge=1, description="draws of z a record in training, L")
    beta: float = Field(default=1.0, ge=0, description="weight of the KL; 1 is the evidence lower bound")
    free_nats: float = Field(default=0.0, ge=0, description="nats of KL that each latent dimension has for nothing")
    capacity: float | None = Field(default=None, ge=0, description="nats that the KL is held to, by beta; grows to it")
    kl_warm_up: float = Field(default=0.3, ge=0, lt=1, description="share of the epochs in which the KL's weight grows")

    @model_validator(mode="after")
    def _goes_together(self) -> "ObjectiveConfig":
        if self.kind != "elbo":
            if self.kind == "autoencoder" and self.draws != 1:
                raise ValueError("an autoencoder draws nothing: leave draws at 1")
            if self.kind != "autoencoder" and self.draws < 2:
                raise ValueError(f"{self.kind} weights several draws of a record: set draws to 2 or more")
            if self.beta != 1 or self.free_nats or self.capacity is not None:
                raise ValueError(f"beta, free_nats and capacity belong to the ELBO and have no meaning for {self.kind}")
        if self.capacity is not None and self.beta <= 1:
            raise ValueError(
                "a capacity holds the KL by a beta above 1, as 20: up to 1 the likelihood gains more by each nat of KL"
                " than it costs"
            )
        if self.capacity is not None and self.free_nats:
            raise ValueError("capacity and free_nats both say what the KL should be: leave one out")
        return self


class FitConfig(_Section):
    """The optimiser."""

    epochs: int | None = Field(
        default=None, ge=1, description="by default what gives about 5000 steps, 10 to 200; of images 5 to 60"
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="rows; by default a twentieth of them, 16 to 512; of images to 64"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="at the start; falls to zero along a cosine")
    gradient_norm: float = Field(default=10.0, gt=0, description="longer gradients are shortened to this")
    patience: int = Field(default=20, ge=1, description="epochs without a better validation bound before stopping")


class ScoringConfig(_Section):
    """The answers of the service by default."""

    anomaly_score: AnomalyScore | None = Field(
        default=None, description="by default combined; of an autoencoder expected_log_likelihood, its only one"
    )
    samples: int = Field(default=16, description="draws a record, L: a power of two up to 256")
    false_alarm_rate: float = Field(default=0.01, ge=SMALLEST_RATE, lt=1, description="share of normal records flagged")

    @field_validator("samples")
    @classmethod
    def _is_calibrated(cls, samples: int) -> int:
        if samples not in SAMPLE_COUNTS:
            raise ValueError(f"one of {', '.join(map(str, SAMPLE_COUNTS))} is expected")
        return samples


_ERROR: AnomalyScore = "expected_log_likelihood"
_LIKELIHOODS: dict[str, tuple[str, ...]] = {"numeric": get_args(NumericLikelihood), "image": get_args(ImageLikelihood)}


Kind = Literal["numeric", "boolean", "categorical", "timestamp", "image"]
"""What a column can be."""


class FieldConfig(_Section):
    """One column as the user wants it; what is left out is inferred.

    A `timestamp` becomes two categorical fields, `NAME_hour` and `NAME_weekday`, in UTC. A number's `transform` is
    `none`, `log`, or `auto`: the one that `training.data.transform` finds better.
    """

    name: str = Field(min_length=1, description="the column's name")
    kind: Kind = Field(description="how its values are understood")
    likelihood: NumericLikelihood | ImageLikelihood | None = Field(
        default=None, description="of a number: gaussian by default; of images: discretised-logistic by default"
    )
    transform: Literal["auto"] | Transform = Field(default="auto", description="of a number, before it is standardised")
    minimum_scale: float | None = Field(
        default=None, ge=SMALLEST_SCALE, description="least deviation of the decoder, in standardised units"
    )
    fixed_scale: float | None = Field(
        default=None, ge=SMALLEST_SCALE, description="deviation of fixed-gaussian, in standardised units"
    )
    degrees_of_freedom: float | None = Field(default=None, gt=2, description="of student-t")
    vocabulary: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="of a category; other texts are unknown"
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "FieldConfig":
        scaled = (self.likelihood, self.minimum_scale, self.fixed_scale)
        if self.kind not in _LIKELIHOODS and any(value is not None for value in scaled):
            raise ValueError("likelihood, minimum_scale and fixed_scale belong to numeric fields and images")
        if self.likelihood is not None and self.likelihood not in _LIKELIHOODS[self.kind]:
            raise ValueError(f"the likelihood of this kind is one of {', '.join(_LIKELIHOODS[self.kind])}")
        if self.kind != "numeric" and self.degrees_of_freedom is not None:
            raise ValueError("degrees_of_freedom belong to numeric fields")
        if self.kind != "numeric" and self.transform != "auto":
            raise ValueError("a transform belongs to numeric fields")
        if self.kind != "categorical" and self.vocabulary is not None:
            raise ValueError("a vocabulary belongs to categorical fields")
        return self


class TrainingConfig(_Section):
    """Everything that decides what a training run gives; the same configuration and data give the same bundle."""

    preset: Literal["default", "kingma-welling", "an-cho"] = Field(
        default="default", description="defaults of the other keys, by the paper's name"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of everything random")
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    fit: FitConfig = FitConfig()
    scoring: ScoringConfig = ScoringConfig()
    fields: tuple[FieldConfig, ...] | None = Field(
        default=None, min_length=1, description="by default inferred from the data"
    )

    @model_validator(mode="after")
    def _an_autoencoder_has_one_score(self) -> "TrainingConfig":
        given = self.scoring.anomaly_score
        if self.objective.kind == "autoencoder" and given not in (None, _ERROR):
            raise ValueError(f"scoring.anomaly_score: an autoencoder has no {given}; its only score is {_ERROR}")
        return self

    @property
    def kinds(self) -> dict[str, str]:
        """What a person said that columns are, by name."""
        return {field.name: field.kind for field in self.fields or ()}

    @property
    def anomaly_score(self) -> AnomalyScore:
        """The score that decides."""
        return self.scoring.anomaly_score or (_ERROR if self.objective.kind == "autoencoder" else "combined")


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    # Kingma & Welling 2014, Appendix C.2 and section 5: one tanh layer on each side; 200 units where the
    # decoder is a Gaussian.
    "kingma-welling": {
        "network": {"kind": "dense", "hidden": (200,), "activation": "tanh"},
        "objective": {"kl_warm_up": 0.0},
    },
    # An & Cho 2015, section 4: 400 ReLU units on each side, 200 latent dimensions, several draws.
    "an-cho": {
        "network": {"kind": "dense", "hidden": (400,), "latent_size": 200, "activation": "relu"},
        "objective": {"draws": 10, "kl_warm_up": 0.0},
    },
}


def build(
    content: dict[str, Any], *, source: str = "the configuration", options: Mapping[str, str] | None = None
) -> TrainingConfig:
    """Complete a configuration: what it says itself, else what its preset says, else the defaults.

    Args:
        content: The tree as TOML gives it.
        source: Where it stands, for messages.
        options: By the place of a setting, as `data.label`, the option that it was given by in place of the source.

    Raises:
        ConfigInvalid: An unknown key, a wrong type, or a value out of range, named by its place.
    """
    preset = PRESETS.get(str(content.get("preset", "default")), {})
    merged: dict[str, Any] = {**content}
    for section, values in preset.items():
        given = content.get(section, {})
        merged[section] = {**values, **given} if isinstance(given, dict) else given
    try:
        return TrainingConfig.model_validate(merged)
    except ValidationError as error:
        faults = wording.faults(error, TrainingConfig)
        given = options or {}
        lines = [_said(place, fault, given) for place, fault in faults]
        named = all(_named(place) in given for place, _ in faults)
        raise ConfigInvalid(("" if named else f"{source}: ") + "; ".join(lines)) from error


def _named(place: tuple[int | str, ...]) -> str:
    """A place as a person counts: `fields[1].kind` is of the first field."""
    return ".".join(part if isinstance(part, str) else f"[{part + 1}]" for part in place).replace(".[", "[")


def _said(place: tuple[int | str, ...], fault: str, options: Mapping[str, str]) -> str:
    """A fault with its place, or with the option that it was given by."""
    named = _named(place)
    if named in options:
        return f"{options[named]}: {fault}"
    if len(place) == 1 and named not in TrainingConfig.model_fields:
        for section in TrainingConfig.model_fields:
            if named in wording.names_at(TrainingConfig, (section,)):
                return f"{named}: belongs to a section; write it below [{section}]"
    return f"{named}: {fault}" if named else fault


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as a tree for `build`.

    Raises:
        ConfigInvalid: Not there, or not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigInvalid(
            f"{path}: there is no such file; `surprisal train FILE --schema-only` prints one to start from"
        ) from error
    except IsADirectoryError as error:
        raise ConfigInvalid(f"{path}: is a folder; a TOML file is expected") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: is no text in UTF-8, from byte {error.start + 1} on; save it as UTF-8") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read; look at its permissions") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{path}: {_no_toml(str(error), text)}") from error


def _no_toml(reason: str, text: str) -> str:
    """Where a text is no TOML; `reason` is tomllib's, whose words are not ours."""
    found = re.search(r"line (\d+), column", reason)
    if found is None:
        return "is no TOML: something that is opened is not closed before the end"
    number = int(found[1])
    lines = text.splitlines()
    line = lines[number - 1].strip() if number <= len(lines) else ""
    return (
        f"line {number} is no TOML: {short(line)!r}; a setting is NAME = VALUE, texts stand in quotes, and a bracket "
        "of a line before may not be closed"
    )
