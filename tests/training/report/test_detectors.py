"""Curves of detectors, compared with scikit-learn's, and what is drawn of them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_curve

from training.evaluation.labelled import Evaluation
from training.evaluation.measures import measures
from training.report import detectors
from training.report.detectors import NAMED, Detectors
from training.report.figures import COLOURS

Scores = npt.NDArray[np.float64]
random = np.random.default_rng(0)
NORMAL, STRANGE = random.normal(size=900), random.normal(1.5, 1.0, size=70)
NAMES = ("combined", "elbo", "typicality", "iwae", "PCA", "kNN")


def scores() -> dict[str, tuple[Scores, Scores]]:
    """The further down the list, the better a detector; the first decides."""
    return {name: (NORMAL, STRANGE + place / 2) for place, name in enumerate(NAMES)}


def measured() -> Detectors:
    threshold = float(np.sort(NORMAL)[-10])
    return Detectors(scores(), "combined", frozenset(NAMES[:4]), threshold, rate=0.01)


@pytest.mark.parametrize("ties", [False, True])
def test_what_is_found_at_each_rate_is_what_scikit_learn_finds(ties: bool) -> None:
    normal, strange = (np.round(each) if ties else each for each in (NORMAL, STRANGE))
    rates, recalls = detectors.recall_by_rate(normal, strange)
    false, true, _ = roc_curve([0] * 900 + [1] * 70, [*normal, *strange], drop_intermediate=False)
    expected = [true[false <= rate + 1e-12].max() for rate in rates]
    np.testing.assert_allclose(recalls, expected)
    assert (rates[0], rates[-1], recalls[-1]) == (0, 1, 1)


def test_the_area_under_the_precisions_is_the_average_precision() -> None:
    recalls, precisions = detectors.precision_by_recall(NORMAL, STRANGE)
    area = (np.diff([0, *recalls]) * precisions).sum()
    assert area == pytest.approx(average_precision_score([0] * 900 + [1] * 70, [*NORMAL, *STRANGE]))


def test_the_one_that_decides_and_the_best_others_are_in_colour() -> None:
    named = measured().named
    assert list(named) == ["combined", "kNN", "PCA", "iwae"]
    assert [named[name]["color"] for name in named] == list(COLOURS[:NAMED])
    assert [named[name]["linestyle"] for name in named] == ["-", "--", "--", "-"]
    assert named["combined"]["linewidth"] > named["kNN"]["linewidth"]


def test_the_operating_point_is_that_of_the_threshold() -> None:
    found = measured()
    rate, recall = found.operating
    assert rate == 9 / 900
    caught = (found.threshold < STRANGE).sum()
    assert recall == caught / 70
    assert found.precision == caught / (caught + 9)
    axes = Figure().add_subplot()
    detectors.draw_roc(axes, found)
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(rate, recall)]  # type: ignore[index]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 1 / 900


def test_a_model_that_flags_nothing_has_curves_too() -> None:
    found = Detectors(scores(), "combined", frozenset(NAMES[:4]), threshold=1e9, rate=0.01)
    assert found.operating == (0, 0)
    assert found.precision is None
    for draw in (detectors.draw_roc, detectors.draw_precision):
        draw(Figure().add_subplot(), found)


def test_a_picture_says_what_is_found_and_names_every_detector(tmp_path: Path) -> None:
    found = measured()
    every = {name: measures(*each) for name, each in scores().items()}
    evaluation = Evaluation(
        "pay", 3, "later.csv", "combined", found.threshold, 0.01, 900, 70, 800, 0, (), (), scores(), 2, every
    )
    detectors.save(evaluation, tmp_path / "curves.svg")
    written = (tmp_path / "curves.svg").read_text()
    assert f"pay version 3 finds {found.operating[1]:.0%} of the anomalies at 1.0% false alarms" in written
    assert all(name in written for name in ("combined", "kNN", "PCA", "\N{MINUS SIGN}IWAE bound", "\N{MINUS SIGN}ELBO"))
    detectors.save(evaluation, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == written
