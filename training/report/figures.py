"""Charts, for the report and for `surprisal evaluate`: legible on white and on black."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from training.evaluation.labelled import Evaluation

mpl.use("agg")

INK = "#7a8088"
"""Of axes and text: a grey with enough contrast on white and on black."""
COLOURS = ("#3b82f6", "#e8833a", "#22a06b", "#c2559d", "#8b6fd6", "#b59b00", "#0ea5b7", "#d64545", "#6b7280")
"""Of lines, in order: told apart with each kind of colour blindness, and on both backgrounds."""

STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "surprisal",
}


def save_curves(evaluation: "Evaluation", path: Path) -> None:
    """Draw the ROC and the precision-recall curve of every detector into a file.

    Args:
        evaluation: What was measured.
        path: A `.png` or `.svg` file.
    """
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(11, 5), layout="constrained")
        roc, precision = figure.subplots(1, 2)
        own_scores = len(evaluation.scores) - evaluation.baselines
        for place, (name, (normal, anomalies)) in enumerate(evaluation.scores.items()):
            labels = [0] * len(normal) + [1] * len(anomalies)
            scores = [*normal, *anomalies]
            own = name == evaluation.anomaly_score
            style: Any = {
                "linewidth": 2.4 if own else 1.2,
                "zorder": 3 if own else 2,
                "linestyle": "-" if place < own_scores else "--",
                "color": COLOURS[place if place < own_scores else place - own_scores],
            }
            found = evaluation.measures[name]
            false, true, _ = roc_curve(labels, scores)
            roc.plot(false, true, label=f"{name} ({found['auroc'].value:.3f})", **style)
            kept, recall, _ = precision_recall_curve(labels, scores)
            area = found["average_precision"].value
            precision.step(recall, kept, where="post", label=f"{name} ({area:.3f})", **style)
        rows = f"{evaluation.normal:,} normal rows, {evaluation.anomalies:,} anomalies"
        roc.set(title="ROC (area)", xlabel="share of normal rows flagged", ylabel="share of anomalies found")
        precision.set(title="Precision and recall (average precision)", xlabel="recall", ylabel="precision")
        for axes in (roc, precision):
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
            axes.grid(visible=True)
            axes.legend(fontsize=8)
        figure.suptitle(f"{evaluation.name} version {evaluation.version} on {evaluation.data}: {rows}", color=INK)
        figure.savefig(path, dpi=150)
