"""Golden records: raw records and every score they had at export, replayed whenever a bundle is loaded."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bundle.errors import GoldenMismatch
from bundle.record.fields import Frozen, Tensors

FILE_NAME = "golden.json"


class GoldenCase(Frozen):
    """One record, one number of draws, and what the scores were.

    Args:
        record: The record as a client would send it.
        samples: Number of draws L.
        expected: Graph outputs by name: a number, or those of an array, row by row.
        tolerance: How far a score may be off, in nats: `tolerance`, or ten times what float32 costs, if that is more.
    """

    record: dict[str, Any] | list[Any]
    samples: int
    expected: dict[str, float | list[float]]
    tolerance: float = Field(ge=0, allow_inf_nan=False)


class Golden(Frozen):
    """The content of `golden.json`.

    Args:
        cases: What `scorer.onnx` gave.
        explained: What `explainer.onnx` gave; none where there is no explainer.
    """

    cases: tuple[GoldenCase, ...]
    explained: tuple[GoldenCase, ...] = ()

    def verify(self, score: Callable[[Sequence[object], int], Tensors]) -> None:
        """Score every golden record again and compare.

        Args:
            score: From records and a number of draws to the graph's outputs, by the path that a request takes.

        Raises:
            GoldenMismatch: A score is off by more than its tolerance, or an output is missing.
        """
        _verify(self.cases, score, "scorer.onnx")

    def verify_explanations(self, explain: Callable[[Sequence[object], int], Tensors]) -> None:
        """Explain every golden record again and compare; see `verify`."""
        _verify(self.explained, explain, "explainer.onnx")


def plain(values: npt.NDArray[Any]) -> float | list[float]:
    """One record's output as a case holds it: a number, or those of an array, row by row."""
    return float(values) if values.ndim == 0 else values.ravel().tolist()


def _verify(golden: Sequence[GoldenCase], run: Callable[[Sequence[object], int], Tensors], graph: str) -> None:
    for samples in sorted({case.samples for case in golden}):
        cases = [case for case in golden if case.samples == samples]
        outputs = run([case.record for case in cases], samples)
        for row, case in enumerate(cases):
            for name, expected in case.expected.items():
                if name not in outputs:
                    raise GoldenMismatch(FILE_NAME, f"{graph} has no output {name!r}")
                actual = np.asarray(outputs[name])
                if actual.shape[:1] != (len(cases),) or actual[row].size != np.size(expected):
                    raise GoldenMismatch(FILE_NAME, f"{name} has the shape {actual.shape}")
                off = _distance(actual[row].ravel(), np.ravel(expected))
                if not off <= case.tolerance:
                    raise GoldenMismatch(
                        FILE_NAME,
                        f"record {golden.index(case)} with {samples} draws: {name} is off by {off:.3g}, "
                        f"allowed are {case.tolerance:.3g}; the graph, the noise or this runtime computes "
                        "something else than at export: train it again",
                    )


def _distance(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    difference = np.asarray(actual, np.float64) - np.asarray(expected, np.float64)
    return float(np.max(np.abs(difference)))


def tolerance(fields: int, largest_term: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How far two computations of one score may lie apart: 1e-4 nats a field plus 1e-5 of the largest term.

    Training measures what float32 costs, too, and allows ten times that where it is more.

    Args:
        fields: Number of fields in the record.
        largest_term: (B,) the largest absolute summand of each record's score, in nats.

    Returns:
        (B,) nats, float64.
    """
    return 1e-4 * fields + 1e-5 * np.abs(np.asarray(largest_term, np.float64))
