"""Golden records: replayed within tolerance they pass, and whatever else a graph may answer does not."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bundle.contents.golden import FILE_NAME, Golden, GoldenCase, tolerance
from bundle.errors import GoldenMismatch

TOLERANCE = 0.25
LATENT = [1.0, -2.0, 0.5]


def case(value: float, draws: int, **changes: Any) -> GoldenCase:
    expected = {"elbo": value * draws, "latent_mean": [value * each for each in LATENT]}
    content = {"record": {"x": value}, "samples": draws, "expected": expected, "tolerance": TOLERANCE}
    return GoldenCase.model_validate(content | changes)


GOLDEN = Golden(cases=(case(1, 4), case(2, 1), case(3, 4), case(4, 1), case(5, 256)))


class Graph:
    """Scores exactly as at export, except for what a test adds to one output of one record."""

    def __init__(self, off: float = 0.0, value: float | None = None, output: str = "elbo", entry: int = 0) -> None:
        self.off, self.value, self.output, self.entry = off, value, output, entry
        self.calls: list[tuple[list[float], int]] = []

    def __call__(self, records: Sequence[Any], samples: int) -> dict[str, np.ndarray]:
        x = np.array([record["x"] for record in records], np.float64)
        self.calls.append((x.tolist(), samples))
        outputs = {"elbo": x * samples, "latent_mean": x[:, None] * LATENT, "iwae": x}
        row = np.flatnonzero(x == self.value)
        if self.output == "elbo":
            outputs["elbo"][row] += self.off
        else:
            outputs["latent_mean"][row, self.entry] += self.off
        return outputs


def test_scores_as_at_export_pass_and_each_number_of_draws_is_scored_once() -> None:
    graph = Graph()
    GOLDEN.verify(graph)
    assert sorted(graph.calls, key=lambda call: call[1]) == [([2.0, 4.0], 1), ([1.0, 3.0], 4), ([5.0], 256)]


@given(
    st.integers(0, 4),
    st.sampled_from(["elbo", "latent_mean"]),
    st.integers(0, 2),
    st.floats(-2, 2) | st.sampled_from([TOLERANCE, -TOLERANCE, math.inf, -math.inf]),
)
def test_a_score_may_be_off_by_the_tolerance_and_no_more(index: int, output: str, entry: int, off: float) -> None:
    record = GOLDEN.cases[index].record
    assert isinstance(record, dict)
    graph = Graph(off, record["x"], output, entry)
    if abs(off) <= TOLERANCE - 1e-9 or abs(off) == TOLERANCE:
        GOLDEN.verify(graph)
    elif abs(off) > TOLERANCE + 1e-9:
        where = f"^{FILE_NAME}: record {index} with {GOLDEN.cases[index].samples} draws: {output} is off by "
        with pytest.raises(GoldenMismatch, match=where) as error:
            GOLDEN.verify(graph)
        assert error.value.file == FILE_NAME


@pytest.mark.parametrize("allowed", [TOLERANCE, 1e300])
@pytest.mark.parametrize("output", ["elbo", "latent_mean"])
def test_nan_never_passes(output: str, allowed: float) -> None:
    golden = Golden(cases=(case(2, 1, tolerance=allowed),))
    golden.verify(Graph())
    with pytest.raises(GoldenMismatch, match=f"{output} is off by nan"):
        golden.verify(Graph(math.nan, 2, output, 1))


@pytest.mark.parametrize("missing", ["elbo", "latent_mean"])
def test_an_output_that_is_gone_is_named(missing: str) -> None:
    def score(records: Sequence[object], samples: int) -> dict[str, np.ndarray]:
        outputs = Graph()(records, samples)
        del outputs[missing]
        return outputs

    with pytest.raises(GoldenMismatch, match=f"scorer.onnx has no output '{missing}'"):
        GOLDEN.verify(score)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("latent_mean", [[2.0, 2.0]]),
        ("latent_mean", [[2.0, 2.0, 2.0, 2.0]]),
        ("latent_mean", [2.0]),
        ("latent_mean", [[2.0]]),
        ("latent_mean", [[]]),
        ("latent_mean", []),
        ("elbo", []),
        ("elbo", [[2.0, 2.0]]),
        ("elbo", [[]]),
    ],
)
def test_an_output_of_another_shape_is_a_mismatch(output: str, answer: list[Any]) -> None:
    golden = Golden(cases=(case(2, 1, expected={"elbo": 2.0, "latent_mean": [2.0, 2.0, 2.0]}),))
    outputs = {"elbo": np.array([2.0]), "latent_mean": np.array([[2.0, 2.0, 2.0]])}
    golden.verify(lambda records, samples: outputs)
    with pytest.raises(GoldenMismatch, match=output):
        golden.verify(lambda records, samples: outputs | {output: np.array(answer)})


@given(st.integers(1, 500), st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_the_tolerance_grows_with_the_fields_and_the_largest_term(fields: int, terms: list[float]) -> None:
    allowed = tolerance(fields, np.array(terms, np.float32))
    assert allowed.dtype == np.float64
    assert allowed == pytest.approx([1e-4 * fields + 1e-5 * abs(float(np.float32(term))) for term in terms])


@pytest.mark.parametrize("record", [{"x": 1.5, "c": "é", "b": None, "n": 2**53 + 1}, [1.5, None, "7", 7, True]])
def test_the_file_keeps_records_as_a_client_sends_them(record: Any) -> None:
    golden = Golden(cases=(case(0.1 + 0.2, 4, record=record),))
    assert Golden.model_validate_json(golden.model_dump_json()) == golden


@pytest.mark.parametrize(
    "changes", [{"surprise": 1}, {"record": "x"}, {"samples": "many"}, {"expected": {"elbo": "x"}}]
)
def test_what_is_no_golden_case_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        case(1, 1, **changes)


@pytest.mark.parametrize("allowed", [math.inf, math.nan, -1.0])
def test_a_tolerance_that_lets_anything_or_nothing_pass_is_none(allowed: float) -> None:
    with pytest.raises(ValidationError, match="tolerance"):
        case(2, 1, tolerance=allowed)
