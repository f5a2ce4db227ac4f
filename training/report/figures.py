"""How charts look, in the report and from `surprisal evaluate`: legible on white and on black."""

from typing import Any

import matplotlib as mpl
from cycler import cycler

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
