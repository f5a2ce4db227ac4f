"""How well a score tells anomalies: figures of known scores, ties and scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from training.evaluation.measures import Measure, detection, measures

SCORES = st.lists(st.integers(-4, 4).map(float) | st.just(float("inf")), min_size=1, max_size=40)


def test_measures_of_known_scores() -> None:
    normal, anomalies = np.arange(1000.0), np.array([999.5, 995.5, 10.5, 2000.0])
    found = measures(normal, anomalies)
    assert found["recall at 0.001"].value == 0.5
    assert found["recall at 0.01"].value == 0.75
    assert found["precision at 4"].value == 0.5
    assert found["auroc"].value == pytest.approx((1000 + 996 + 11 + 1000) / 4000)
    assert measures(normal, anomalies) == found, "one seed, one interval"
    assert measures(normal, anomalies + 1e6)["auroc"] == Measure(1.0, 1.0, 1.0)


def test_ties_count_by_their_share() -> None:
    assert measures(np.zeros(90), np.zeros(10))["precision at 10"].value == pytest.approx(0.1)


@given(SCORES, SCORES)
def test_however_many_are_equal_the_figures_are_scikit_learns(normal: list[float], anomalies: list[float]) -> None:
    found = detection(np.array(normal), np.array(anomalies))
    labels, scores = np.repeat([0, 1], [len(normal), len(anomalies)]), np.array(normal + anomalies)
    finite = np.nan_to_num(scores, posinf=9.0)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, finite), abs=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, finite), abs=1e-12)


def test_an_interval_is_of_the_figures_of_rows_drawn_again() -> None:
    """Resample by resample, from the definition."""
    random = np.random.default_rng(1)
    normal, anomalies = random.normal(size=300).round(1), (random.normal(size=40) + 2).round(1)
    found = measures(normal, anomalies, seed=5)
    again = np.random.default_rng(5)
    drawn = [(again.choice(normal, 300), again.choice(anomalies, 40)) for _ in range(200)]
    recall = [float((strange > np.sort(usual)[::-1][3]).mean()) for usual, strange in drawn]
    auroc = [detection(usual, strange)["auroc"] for usual, strange in drawn]
    for name, values in (("recall at 0.01", recall), ("auroc", auroc)):
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))))


def test_a_score_that_is_no_number_is_refused() -> None:
    for normal, anomalies in (([0.0, np.nan], [1.0]), ([0.0], [np.nan])):
        with pytest.raises(ValueError, match="no number"):
            detection(np.array(normal), np.array(anomalies))
