"""Which held-out rows calibrate when some of them are anomalies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bundle.contents.calibration import Calibration
from training.fitting.thinning import presumed_normal

ASKED = 0.01


def flagged(distance: float, contamination: float, kept: str = "presumed") -> float:
    """The mean false-alarm rate of exponential scores, anomalies' being further out by so much."""
    random = np.random.default_rng(0)
    rates = []
    for _ in range(60):
        strange = round(contamination * 600)
        scores = random.exponential(size=600).astype(np.float32)
        scores[:strange] += distance
        match kept:
            case "all":
                rows = np.arange(600)
            case "without the highest":
                rows = np.argsort(scores)[: 600 - strange]
            case _:
                rows = presumed_normal(scores, contamination)
        rates.append(stats.expon.sf(Calibration({("s", 1): scores[rows]}).threshold("s", 1, ASKED)))
    return float(np.mean(rates))


@pytest.mark.parametrize("contamination", [0.05, 0.1])
@pytest.mark.parametrize("distance", [0.0, 2.0, 30.0])
def test_as_many_are_flagged_as_asked_for_wherever_the_anomalies_lie(distance: float, contamination: float) -> None:
    assert 0.5 * ASKED <= flagged(distance, contamination) <= 2.0 * ASKED


def test_anomalies_that_stand_out_go_and_nothing_else() -> None:
    scores = np.random.default_rng(0).exponential(size=600).astype(np.float32)
    scores[:30] += 30.0
    assert presumed_normal(scores, 0.05).tolist() == list(range(30, 600))


@pytest.mark.parametrize("contamination", [0.05, 0.1])
def test_a_tail_that_is_heavy_by_nature_stays(contamination: float) -> None:
    scores = np.random.default_rng(0).lognormal(0.0, 0.7, size=2000).astype(np.float32)
    kept = scores[presumed_normal(scores, contamination)]
    threshold = Calibration({("s", 1): kept}).threshold("s", 1, ASKED)
    assert 0.5 * ASKED <= stats.lognorm.sf(threshold, 0.7) <= 2.0 * ASKED


def test_all_rows_flag_too_few_and_those_without_the_highest_too_many() -> None:
    assert flagged(30.0, 0.05, "all") < 0.1 * ASKED
    assert flagged(0.0, 0.05, "without the highest") > 5 * ASKED


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80),
    st.floats(0.0, 0.49),
    st.integers(1, 4),
)
def test_whatever_the_scores_so_many_rows_stay(values: list[float], contamination: float, times: int) -> None:
    scores = np.array(values * times, np.float32)
    kept = presumed_normal(scores, contamination)
    assert scores.size - round(contamination * scores.size) <= kept.size <= scores.size
    assert (np.diff(kept) > 0).all()
    assert kept.size == 0 or (kept[0] >= 0 and kept[-1] < scores.size)


def test_without_contamination_every_row_stays() -> None:
    assert presumed_normal(np.array([3.0, 1.0, 2.0], np.float32), 0.0).tolist() == [0, 1, 2]
