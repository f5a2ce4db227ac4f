"""How well detectors tell anomalies, as curves: each share of false alarms with what it finds, and precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from training.evaluation.labelled import Evaluation
from training.evaluation.measures import detection
from training.report import wording
from training.report.figures import COLOURS, INK, STYLE

NAMED = 4
"""Detectors in colour: the one that decides and the best others."""
_MIDDLE, _LOW = 0.6, 0.35
_AWAY = (12, 42)
_POINTS = 250
"""Points of a curve, at most."""
_LEGEND_WIDTH = 38
_DARK = "#30363d"
_ON_WHITE: Any = {"figure.facecolor": "white", "savefig.facecolor": "white", "text.parse_math": False} | dict.fromkeys(
    ("text.color", "axes.titlecolor", "axes.labelcolor", "legend.labelcolor", "xtick.labelcolor", "ytick.labelcolor"),
    _DARK,
)
_DOT: dict[str, Any] = {"marker": "o", "color": COLOURS[0], "markersize": 8, "markeredgecolor": INK}
_GREY: dict[str, Any] = {"color": INK, "linewidth": 0.9, "alpha": 0.45, "zorder": 1}

Values = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Detectors:
    """Detectors that were measured on the same rows.

    Args:
        scores: By detector, (n,) scores of normal rows and (m,) of anomalies, higher = stranger.
        decides: The one that the model calls its own anomaly score.
        own: Those that are scores of the model.
        threshold: The model's: a row whose own anomaly score is above it is flagged.
        rate: The share of normal rows that should be.
    """

    scores: Mapping[str, tuple[Values, Values]]
    decides: str
    own: frozenset[str]
    threshold: float
    rate: float

    @property
    def named(self) -> dict[str, dict[str, Any]]:
        """The detectors in colour with their lines: the one that decides, then the best by average precision."""
        found = {name: detection(*each)["average_precision"] for name, each in self.scores.items()}
        others = sorted((name for name in found if name != self.decides), key=lambda name: -found[name])
        return {
            name: {
                "color": COLOURS[place],
                "linewidth": 2.6 if name == self.decides else 1.8,
                "linestyle": "-" if name in self.own else "--",
                "zorder": 4 if name == self.decides else 3,
            }
            for place, name in enumerate([self.decides, *others[: NAMED - 1]])
        }

    @property
    def operating(self) -> tuple[float, float]:
        """The share of normal rows that the model flags, and the share of anomalies."""
        normal, anomalies = self.scores[self.decides]
        return float((normal > self.threshold).mean()), float((anomalies > self.threshold).mean())

    @property
    def precision(self) -> float | None:
        """The share of anomalies among what the model flags; None where it flags nothing."""
        normal, anomalies = self.scores[self.decides]
        right, wrong = int((anomalies > self.threshold).sum()), int((normal > self.threshold).sum())
        return right / (right + wrong) if right + wrong else None


def save(evaluation: Evaluation, path: Path) -> None:
    """Draw the ROC and the precision of every detector into a file.

    Args:
        evaluation: What was measured.
        path: A `.png` or `.svg` file.
    """
    names = list(evaluation.scores)
    own = frozenset(names[: len(names) - evaluation.baselines])
    rate = evaluation.false_alarm_rate
    detectors = Detectors(evaluation.scores, evaluation.anomaly_score, own, evaluation.threshold, rate)
    found, recall = detectors.operating
    with mpl.rc_context({**STYLE, **_ON_WHITE}):
        figure = Figure(figsize=(13, 5), layout="constrained")
        roc, precision = figure.subplots(1, 2)
        draw_roc(roc, detectors)
        draw_precision(precision, detectors)
        roc.set_title("Anomalies found by false alarms (low rates enlarged)")
        precision.set_title("How many alarms are right")
        figure.legend(handles=_legend(evaluation, detectors), loc="outside right center", fontsize=9, labelspacing=0.9)
        rows = f"{evaluation.normal:,} normal rows and {evaluation.anomalies:,} anomalies of {evaluation.data}"
        figure.suptitle(
            f"{evaluation.name} version {evaluation.version} finds {wording.percent(recall)} of the anomalies at "
            f"{wording.percent(found)} false alarms: {rows}",
            fontweight="bold",
        )
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})


def _legend(evaluation: Evaluation, detectors: Detectors) -> list[Line2D]:
    named = detectors.named
    lines = []
    for name, style in named.items():
        area, precision = (evaluation.measures[name][measure].value for measure in ("auroc", "average_precision"))
        says = f"{wording.score(name)}\nAUROC {area:.3f}, average precision {precision:.3f}"
        lines.append(Line2D([], [], **style, label=says))
    if others := [wording.score(name) for name in evaluation.scores if name not in named]:
        lines.append(Line2D([], [], **_GREY, label="\n".join(wrap(", ".join(others), _LEGEND_WIDTH))))
    dot = Line2D([], [], **_DOT, linestyle="none", label=f"{wording.score(detectors.decides)} at the model's threshold")
    asked = f"false-alarm rate of the model, {wording.rate(detectors.rate)}"
    return [*lines, dot, Line2D([], [], color=INK, linewidth=1, linestyle=":", label=asked)]


def draw_roc(axes: Axes, detectors: Detectors) -> None:
    """The share of anomalies that each detector finds by the share of normal rows that it flags, which is logarithmic.

    Args:
        axes: Empty ones. The leftmost point of a curve is what it finds without a false alarm.
        detectors: What to draw.
    """
    named, rows = detectors.named, len(detectors.scores[detectors.decides][0])
    left = min(0.5 / rows, 0.5 * detectors.rate)
    for name in _grey_first(detectors, named):
        rates, recalls = recall_by_rate(*detectors.scores[name])
        axes.step(rates.clip(left), recalls, where="post", **named.get(name, _GREY), label=_label(name, named))
    found, recall = detectors.operating
    axes.axvline(detectors.rate, color=INK, linewidth=1, linestyle=":", zorder=2)
    axes.set(xscale="log", xlim=(left, 1), ylim=(-0.02, 1.03))
    _mark(axes, max(found, left), recall, f"{wording.percent(recall)} found")
    axes.set(xlabel="normal rows flagged", ylabel="anomalies found")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.grid(visible=True)


def draw_precision(axes: Axes, detectors: Detectors) -> None:
    """The share of anomalies among what each detector flags, by the share of anomalies that it finds.

    Args:
        axes: Empty ones.
        detectors: What to draw.
    """
    named = detectors.named
    for name in _grey_first(detectors, named):
        recalls, precisions = precision_by_recall(*detectors.scores[name])
        axes.step(recalls, precisions, where="pre", **named.get(name, _GREY), label=_label(name, named))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
    if detectors.precision is not None:
        _mark(axes, detectors.operating[1], detectors.precision, f"{wording.percent(detectors.precision)} right")
    axes.set(xlabel="anomalies found", ylabel="alarms that are right")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.grid(visible=True)


def recall_by_rate(normal: Values, anomalies: Values) -> tuple[Values, Values]:
    """The share of anomalies above the threshold that flags so many normal rows at most.

    Args:
        normal: (n,) scores, higher = stranger.
        anomalies: (m,)

    Returns:
        Shares of normal rows, from 0 to 1, evenly spread on a logarithmic axis; and the shares of anomalies.

    >>> recall_by_rate(np.array([1.0, 2.0]), np.array([3.0, 1.5]))
    (array([0. , 0.5, 1. ]), array([0.5, 1. , 1. ]))
    """
    rows = normal.size
    flagged = np.unique(np.concatenate([[0], np.geomspace(1, rows, _POINTS).round()]).astype(np.int64))
    # With so many normal rows flagged, the threshold is the strangest one that is not.
    thresholds = np.concatenate([np.sort(normal)[::-1], [-np.inf]])[flagged]
    above = anomalies.size - np.searchsorted(np.sort(anomalies), thresholds, side="right")
    return flagged / rows, above / anomalies.size


def precision_by_recall(normal: Values, anomalies: Values) -> tuple[Values, Values]:
    """Precision at the thresholds that find so many anomalies.

    Args:
        normal: (n,) scores, higher = stranger.
        anomalies: (m,)

    Returns:
        Shares of anomalies, rising to 1; and the precision with each of these found.

    >>> precision_by_recall(np.array([1.0, 2.0]), np.array([3.0, 1.5]))
    (array([0.5, 1. ]), array([1.        , 0.66666667]))
    """
    places = np.unique(np.linspace(0, anomalies.size - 1, _POINTS).round().astype(np.int64))
    thresholds = np.sort(anomalies)[::-1][places]
    right = anomalies.size - np.searchsorted(np.sort(anomalies), thresholds, side="left")
    wrong = normal.size - np.searchsorted(np.sort(normal), thresholds, side="left")
    return right / anomalies.size, right / (right + wrong)


def _grey_first(detectors: Detectors, named: Mapping[str, object]) -> list[str]:
    """The named ones last and in their order, which is that of the legend."""
    return [*(name for name in detectors.scores if name not in named), *named]


def _label(name: str, named: Mapping[str, object]) -> str:
    # What begins with this sign has no place in a legend.
    return wording.score(name) if name in named else "_" + name


def _mark(axes: Axes, x: float, y: float, words: str) -> None:
    """A point with its words, towards the middle of the picture, where the curves are not."""
    axes.plot([x], [y], **_DOT, zorder=5, clip_on=False)
    far = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0] > _MIDDLE
    across, side = (-_AWAY[0], "right") if far else (_AWAY[0], "left")
    up = _AWAY[1] if y < _LOW else -_AWAY[1]
    leader = {"arrowstyle": "-", "color": INK, "linewidth": 1}
    axes.annotate(
        words, (x, y), (across, up), textcoords="offset points", ha=side, zorder=6, fontweight="bold", arrowprops=leader
    )
