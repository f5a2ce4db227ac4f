"""Which rows and columns of a scored file are written."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from service.engine.verdicts import NAMES, Verdicts
from service.files.scored_rows import ScoredRows
from service.files.selection import ColumnsRefused, Selection

BLOCK = 50


def rows_of(
    p_values: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], flagged: npt.NDArray[np.bool_]
) -> ScoredRows:
    rows = len(p_values)
    table = np.zeros((rows, 13 + 1))
    for name, values in (("p_value", p_values), ("anomaly_score", scores), ("is_anomaly", flagged)):
        table[:, NAMES.index(name)] = values
    numbers = np.arange(1, rows + 1)
    text = pa.table({"text": [f"row {number}" for number in numbers]})
    faults = np.full(rows, None, object)
    return ScoredRows(numbers, text, {"numeric": numbers[:, np.newaxis] * 1.0}, Verdicts(table), faults)


@pytest.fixture
def rows() -> ScoredRows:
    """Many ties, and scores that are no numbers."""
    random = np.random.default_rng(0)
    p_values = random.integers(1, 30, 1000) / 30
    scores = random.integers(0, 4, 1000).astype(float)
    scores[random.integers(0, 1000, 100)] = np.nan
    return rows_of(p_values, scores, p_values < 0.1)


def sifted(selection: Selection, rows: ScoredRows, block: int = BLOCK) -> list[ScoredRows]:
    def found() -> Iterator[ScoredRows]:
        sieve = selection.sieve(block)
        for start in range(0, len(rows), block):
            yield from sieve.add(rows.take(np.arange(start, min(start + block, len(rows)))))
        yield from sieve.rest()

    return list(found())


def strangest(rows: ScoredRows) -> list[int]:
    """Numbers of rows, by Python's own sorting."""

    def key(place: int) -> tuple[float, bool, float, int]:
        score = float(rows.verdicts.anomaly_score[place])
        return float(rows.verdicts.p_value[place]), math.isnan(score), -score if score == score else 0.0, place

    return [place + 1 for place in sorted(range(len(rows)), key=key)]


def consistent(part: ScoredRows) -> bool:
    """Whether numbers, table and tensors are of the same rows."""
    numbers = part.numbers.tolist()
    texts = [f"row {number}" for number in numbers]
    return part.table["text"].to_pylist() == texts and part.tensors["numeric"][:, 0].tolist() == numbers


@pytest.mark.parametrize("most", [1, 7, 49, 50, 51, 333, 999, 1000, 5000])
@pytest.mark.parametrize("block", [1, BLOCK, 3000])
def test_the_strangest_rows_are_those_that_sorting_all_would_give(rows: ScoredRows, most: int, block: int) -> None:
    parts = sifted(Selection(top=most), rows, block)
    assert all(map(consistent, parts))
    assert all(len(part) <= block for part in parts)
    assert np.concatenate([part.numbers for part in parts]).tolist() == strangest(rows)[:most]


def test_the_strangest_rows_take_no_more_memory_for_a_longer_file() -> None:
    sieve = Selection(top=100).sieve(BLOCK)
    held = 0
    for block in range(2000):  # each stranger than all before
        p_values = np.full(BLOCK, 1.0 / (block + 1))
        assert not list(sieve.add(rows_of(p_values, np.zeros(BLOCK), p_values > 2)))
        held = max(held, sum(map(len, vars(sieve)["_held"])))
    assert held <= 2 * 100 + 2 * BLOCK


def test_flagged_rows_are_written_in_order_and_in_whole_blocks(rows: ScoredRows) -> None:
    parts = sifted(Selection(only_flagged=True), rows)
    assert all(map(consistent, parts))
    assert all(len(part) >= BLOCK for part in parts[:-1])
    found = np.concatenate([part.numbers for part in parts])
    np.testing.assert_array_equal(found, np.flatnonzero(rows.verdicts.is_anomaly) + 1)


def test_the_strangest_of_the_flagged(rows: ScoredRows) -> None:
    flagged = int(rows.verdicts.is_anomaly.sum())
    assert flagged > 20
    (few,) = sifted(Selection(only_flagged=True, top=20), rows)
    assert few.numbers.tolist() == strangest(rows)[:20]
    every = sifted(Selection(only_flagged=True, top=1000), rows)
    assert np.concatenate([part.numbers for part in every]).tolist() == strangest(rows)[:flagged]


@pytest.mark.parametrize("selection", [Selection(only_flagged=True), Selection(top=3, only_flagged=True)])
def test_no_row_is_given_once(rows: ScoredRows, selection: Selection) -> None:
    calm = rows_of(np.ones(120), np.zeros(120), np.zeros(120, bool))
    (nothing,) = sifted(selection, calm)
    assert (len(nothing), nothing.table.column_names) == (0, ["text"])


def test_every_row_is_written_as_it_comes(rows: ScoredRows) -> None:
    parts = sifted(Selection(), rows)
    assert np.concatenate([part.numbers for part in parts]).tolist() == [*range(1, 1001)]


def test_columns_are_carried_in_the_order_that_is_asked() -> None:
    assert Selection().carried(["b", "a"], ["elbo"]) == ("b", "a")
    assert Selection(("a", "b")).carried(["b", "a", "elbo"], ["elbo"]) == ("a", "b")
    assert Selection(()).carried(["b", "a"], ["elbo"]) == ()


@pytest.mark.parametrize(
    ("keep", "found", "words"),
    [
        (("a", "c"), ["a", "b"], "there is no column 'c', but 'a', 'b'"),
        (("a", "a"), ["a", "b"], "'a' is asked for twice"),
        (None, ["", "a", ""], "2 columns have no name"),
        (("a", "elbo"), ["a", "elbo"], "'elbo'"),
        (None, ["a", "elbo"], "rename it, or leave it out with --keep"),
        (("c",), [f"x{number}" for number in range(2000)], "'x19', …"),
    ],
)
def test_columns_that_cannot_be_carried_are_refused(keep: tuple[str, ...] | None, found: list[str], words: str) -> None:
    with pytest.raises(ColumnsRefused, match=words):
        Selection(keep).carried(found, ["row", "elbo"])


def test_columns_of_scores_are_written_in_the_order_that_is_asked() -> None:
    offered = ["elbo", "p_value"]
    assert Selection().scores(offered, {}) == ("elbo", "p_value")
    assert Selection(columns=("p_value", "elbo")).scores(offered, {}) == ("p_value", "elbo")
    for columns, words in (
        ((), "no column of scores is named"),
        (("amount",), "there is no column of scores 'amount', but 'elbo', 'p_value'; columns of IN .* --keep"),
        (("elbo", "elbo"), "'elbo' is asked for twice"),
        (("elbo", "error"), "does not write 'error': look there"),
    ):
        with pytest.raises(ColumnsRefused, match=words):
            Selection(columns=columns).scores(offered, {"error": "look there"})
