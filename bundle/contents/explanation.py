"""Why records are strange: from what `explainer.onnx` gives to excess, share, expectation and direction by field."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.contents.manifest import Manifest
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.record import images
from bundle.record.fields import MISSING, UNKNOWN, BooleanField, CategoricalField, ImageField, NumericField, Tensors
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

FILE_NAME = "explainer.onnx"
COVERAGE = 0.9
"""Share of held-out normal values inside the interval in which a number is expected."""
_NORMAL = 1.645  # as many deviations cover that share of a Gaussian
MOST_LIKELY = 3
"""Categories that are named with their probabilities."""
TOP = 3
"""Fields that have columns of their own where an explanation is flat."""

ROUNDS = 5
"""How often the graph fills in a field that is hidden from the encoder with what the decoder expects and encodes again.
Nothing tells a network that never met this field missing that it is: at first it takes the field's mean for a value.
(Of corrupted fields 0.90, 0.92, 0.93, 0.93 came first with 1, 3, 5, 10 rounds.)"""
WIDE = 2**15
"""Decoded numbers a record and draw from which hidden fields are decoded at the posterior's mean alone, not at every
draw: work and memory grow with the square of the fields."""

_WHITE = 1000
_LEAST_RANGE = 1.0  # nats

Array = npt.NDArray[np.float64]


def is_wide(schema: RecordSchema) -> bool:
    """Whether hidden fields are decoded at the posterior's mean alone; of an image nothing is hidden."""
    return isinstance(schema, TableSchema) and _hidden_numbers(schema) > WIDE


def decoded_numbers(schema: RecordSchema, samples: int) -> int:
    """How many numbers the network computes to explain one record, which is what it costs.

    Args:
        schema: The bundle's fields.
        samples: Number of draws, L.
    """
    match schema:
        case ImageSchema():  # It is decoded and weighed, and nothing is filled in.
            return 2 * schema.field.dimensions * samples
        case TableSchema():
            # Encoding again costs about what decoding does.
            return _hidden_numbers(schema) * ((1 if is_wide(schema) else samples) + 2 * ROUNDS)


def _hidden_numbers(schema: TableSchema) -> int:
    """Parameters of p(x|z), for every field that is hidden in turn."""
    parameters = 2 * len(schema.numeric) + len(schema.boolean) + sum(field.size for field in schema.categorical)
    return len(schema.fields) * parameters


@dataclass(frozen=True)
class Surprisals:
    """What the explainer says of B records and N fields, in the schema's order; nats, float64.

    Args:
        fields: -1/L sum_l log p(x_j|z_l), (B, N); with `kl` they add up to the negative ELBO.
        kl: KL(q(z|x) || p(z)), (B,).
        conditional: ELBO(x without x_j) - ELBO(x), (B, N): the surprisal of a field given all others.
    """

    fields: Array
    kl: Array
    conditional: Array

    @classmethod
    def of(cls, schema: RecordSchema, outputs: Tensors) -> "Surprisals":
        """Take the graph's outputs, whose fields stand by kind.

        Args:
            schema: The bundle's fields.
            outputs: Of `explainer.onnx`, B rows each.
        """
        by_kind = {field.name: place for place, field in enumerate(schema.by_kind)}
        order = [by_kind[name] for name in schema.names]
        fields, kl, conditional = (
            outputs[name].astype(np.float64) for name in ("field_surprisal", "kl", "conditional_surprisal")
        )
        return cls(fields[:, order], kl, conditional[:, order])


def usual(schema: RecordSchema, tensors: Tensors, outputs: Tensors) -> UsualSurprisal:
    """What is usual.

    Args:
        schema: The bundle's fields.
        tensors: Held-out normal records.
        outputs: Of `explainer.onnx` for them.
    """
    surprisals = Surprisals.of(schema, outputs)
    numeric = [field for field in schema.by_kind if isinstance(field, NumericField)]
    return UsualSurprisal(
        fields=tuple(np.median(surprisals.fields, axis=0).tolist()),
        kl=float(np.median(surprisals.kl)),
        conditional=tuple(np.median(surprisals.conditional, axis=0).tolist()),
        deviations=tuple(_deviations(field, column, tensors, outputs) for column, field in enumerate(numeric)),
        pixels=_black_and_white(outputs["pixel_surprisal"]) if isinstance(schema, ImageSchema) else None,
    )


def _black_and_white(pixels: npt.NDArray[np.float32]) -> tuple[float, float]:
    black, white = np.quantile(pixels.astype(np.float64), (0.5, 1 - 1 / _WHITE)).tolist()
    return black, max(white, black + _LEAST_RANGE)


def _deviations(field: NumericField, column: int, tensors: Tensors, outputs: Tensors) -> float:
    """Split conformal prediction with a score that is scaled locally (Lei et al. 2018, section 5.2)."""
    off = np.abs(field.standardise(tensors["numeric"][:, column]) - outputs["expected_numeric"][:, column])
    ratios = np.sort(off / outputs["expected_deviation"][:, column])
    ratios = ratios[~np.isnan(ratios)]
    if not ratios.size:
        return _NORMAL
    return float(ratios[min(math.ceil((ratios.size + 1) * COVERAGE), ratios.size) - 1])


class Explanations:
    """Why B records are strange; fields in the schema's order.

    Args:
        manifest: Of a bundle with an explainer.
        tensors: The records.
        outputs: Of `explainer.onnx` for them, with the same records.
    """

    def __init__(self, manifest: Manifest, tensors: Tensors, outputs: Tensors) -> None:
        known = manifest.usual_surprisal
        if known is None:
            raise ValueError("the bundle holds no explainer")
        self.schema = manifest.record
        self._explained = manifest.explained
        self.surprisals = Surprisals.of(self.schema, outputs)
        self.excess: Array = self.surprisals.fields - np.array(known.fields)
        """(B, N) nats above what is usual."""
        self.kl_excess: Array = self.surprisals.kl - known.kl
        """(B,) nats, of one entry more beside the fields."""
        self.conditional_excess: Array = self.surprisals.conditional - np.array(known.conditional)
        """(B, N) nats above what is usual, given all other fields; decides the order."""
        self._deviations = known.deviations
        self._pixels = known.pixels
        self._tensors = tensors
        self._outputs = outputs

    def __len__(self) -> int:
        return len(self.kl_excess)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """(B, N) positions of the fields, the most surprising first."""
        return np.argsort(-self.conditional_excess, axis=1, kind="stable")

    @cached_property
    def share(self) -> Array:
        """(B, N + 1) max(0, excess) / sum of max(0, excess), the KL last; NaN where nothing exceeds."""
        positive = np.concatenate([self.excess, self.kl_excess[:, np.newaxis]], axis=1).clip(min=0.0)
        total = positive.sum(axis=1, keepdims=True)
        share: Array = np.divide(positive, total, out=np.full_like(positive, np.nan), where=total > 0)
        return share

    def objects(self) -> list[dict[str, Any]]:
        """An object for each record, as JSON has it; NaN where there is no number."""
        shares, order = self.share.tolist(), self.order.tolist()
        return [
            {
                "explains": self._explained,
                "kl": {
                    "surprisal": float(self.surprisals.kl[row]),
                    "excess": float(self.kl_excess[row]),
                    "share": shares[row][-1],
                },
                "fields": [self.field(row, place) for place in order[row]],
            }
            for row in range(len(self))
        ]

    def field(self, row: int, place: int) -> dict[str, Any]:
        """What is said of one field of one record, as JSON has it.

        Args:
            row: The record's.
            place: The field's, in the schema's order.
        """
        return {
            "field": self.schema.fields[place].name,
            "surprisal": float(self.surprisals.fields[row, place]),
            "excess": float(self.excess[row, place]),
            "share": float(self.share[row, place]),
            "conditional_excess": float(self.conditional_excess[row, place]),
            **self._expectation(row, place),
        }

    def given(self, row: int, place: int) -> float:
        """What a field of a record holds, as its tensor has it.

        Args:
            row: The record's.
            place: The field's, in the schema's order.
        """
        return float(self._tensors[self.schema.fields[place].kind][row, self._columns[place]])

    def _expectation(self, row: int, place: int) -> dict[str, Any]:
        field = self.schema.fields[place]
        column = self._columns[place]
        match field:
            case ImageField():
                return {
                    "expected": images.in_base64(self.expected_image(row)),
                    "surprisal_map": images.in_base64(self.surprisal_map(row)),
                    "surprisal_map_range": list(self._range),
                    "direction": None,
                }
            case NumericField():
                expected, deviation = (
                    float(self._outputs[name][row, column]) for name in ("expected_numeric", "expected_deviation")
                )
                half = deviation * self._deviations[column]
                given = self.given(row, place)
                low, middle, high = map(field.restore, (expected - half, expected, expected + half))
                direction = "missing" if np.isnan(given) else "high" if given > middle else "low"
                return {"value": given, "expected": middle, "interval": [low, high], "direction": direction}
            case BooleanField():
                true = float(self._outputs["expected_boolean"][row, column])
                codes: list[tuple[int, Any, float]] = [(1, True, true), (0, False, 1.0 - true)]
            case CategoricalField():
                start = self._slots[column]
                probabilities = self._outputs["expected_categorical"][row, start : start + field.size].tolist()
                codes = [
                    (code, None if code == UNKNOWN else field.vocabulary[code - 1], probability)
                    for code, probability in enumerate(probabilities)
                ]
        likely = sorted(codes, key=lambda each: -each[2])[:MOST_LIKELY]
        code_given = self.given(row, place)
        unusual = "unusual category" if code_given != likely[0][0] else None
        return {
            "value": next((value for code, value, _ in codes if code == code_given), None),
            "expected": likely[0][1],
            "likely": [{"value": value, "probability": probability} for _, value, probability in likely],
            "direction": "missing" if code_given == MISSING else unusual,
        }

    def expected_image(self, row: int) -> images.Levels:
        """(H, W, C) uint8 of one image, as the decoder expects it."""
        levels: images.Levels = np.rint(self._outputs["expected_image"][row]).clip(0, 255).astype(np.uint8)
        return levels

    def surprisal_map(self, row: int) -> images.Levels:
        """(H, W) uint8 of one image, the more surprising the lighter.

        Black is as surprising as the median pixel of normal images or less, white what one of a thousand exceeds.
        """
        black, white = self._range
        shade = (self._outputs["pixel_surprisal"][row].astype(np.float64) - black) / (white - black)
        levels: images.Levels = np.rint(255 * shade).clip(0, 255).astype(np.uint8)
        return levels

    @property
    def _range(self) -> tuple[float, float]:
        assert self._pixels is not None
        return self._pixels

    @cached_property
    def _columns(self) -> list[int]:
        """Each field's column in the tensor of its kind."""
        return [self.schema.columns[name] for name in self.schema.names]

    @cached_property
    def _slots(self) -> list[int]:
        """Where each categorical field's slots begin."""
        sizes = [field.size for field in self.schema.by_kind if isinstance(field, CategoricalField)]
        return [0, *np.cumsum(sizes).tolist()]
