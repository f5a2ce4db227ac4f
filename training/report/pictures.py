"""The report's pictures, each drawn small, so that they stand beside or below each other as the window allows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bundle.record.fields import NumericField
from training.fitting.progress import Progress
from training.report import detectors, tails, wording
from training.report.detectors import Detectors
from training.report.false_alarms import P_VALUE_BINS, Check
from training.report.field_fit import FieldFit
from training.report.figures import COLOURS, INK
from training.report.latent import Plane
from training.report.svg import HEIGHT, WIDTH, inline, style

NORMAL, STRANGE, OTHER = COLOURS[0], COLOURS[1], COLOURS[2]
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}%")
POINTS = 700
"""Points of one kind in a picture, at most; more of them are only larger."""
_LEGEND_LINE = 0.2  # inches
_SCORE_BINS = 40
_PROBABILITY_BINS = 8

Values = npt.NDArray[np.floating]


def _picture(key: str, title: str, draw: Callable[[Axes], None], legend: int = 0) -> Markup:
    """A picture with, if it has any, a legend of so many columns above it, for which it grows."""
    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT))
        # Fixed margins: a layout engine draws everything once more, which is half of the time.
        axes = figure.add_axes((0.165, 0.17, 0.80, 0.785))
        draw(axes)
        if legend:
            handles, labels = axes.get_legend_handles_labels()
            further = -(-len(handles) // legend) - 1
            height = HEIGHT + _LEGEND_LINE * further
            figure.set_size_inches(WIDTH, height)
            axes.set_position((0.165, 0.17 * HEIGHT / height, 0.80, 0.725 * HEIGHT / height))
            figure.legend(
                handles, labels, loc="upper left", ncols=legend, handlelength=1.5, columnspacing=1.2, borderaxespad=0.2
            )
        return inline(figure, key, title)


def curve(key: str, title: str, unit: str, lines: dict[str, list[float]], history: Sequence[Progress]) -> Markup:
    """One term by epoch, of training and validation records.

    Args:
        key: Of the picture.
        title: What a screen reader says of it.
        unit: Label of the vertical axis.
        lines: Values by epoch, by name: training first.
        history: The epochs; the last best one is marked.
    """

    def draw(axes: Axes) -> None:
        epochs = [epoch.epoch for epoch in history]
        for (name, values), colour, dash in zip(lines.items(), (NORMAL, STRANGE), ("-", "--"), strict=False):
            axes.plot(epochs, values, dash, color=colour, label=name, marker="." if len(epochs) < 3 else None)
        best = max(epoch.epoch for epoch in history if epoch.best)
        axes.axvline(best, color=INK, linewidth=1, linestyle=":", label=f"kept (epoch {best})")
        # The first epochs are often so far off that nothing else could be seen.
        settled = np.concatenate([values[min(len(values) - 1, len(values) // 20) :] for values in lines.values()])
        low, high = float(settled.min()), float(settled.max())
        margin = 0.06 * (high - low) or 0.5
        axes.set(xlabel="epoch", ylabel=unit, ylim=(low - margin, high + margin))
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True, axis="y")

    return _picture(key, title, draw, legend=3)


def p_values(key: str, title: str, check: Check) -> Markup:
    """The share of records in each tenth of the p-values, with what chance allows."""

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, 1, P_VALUE_BINS + 1)
        centres, width = (edges[:-1] + edges[1:]) / 2, 1 / P_VALUE_BINS
        axes.bar(centres, check.shares, 0.92 * width, color=NORMAL, alpha=0.75, label="found")
        axes.stairs(check.usual, edges, color=INK, linewidth=1.2, baseline=None, label="expected")
        low, high = check.usual - check.usual_low, check.usual_high - check.usual
        axes.errorbar(
            centres, check.usual, [low.clip(0), high.clip(0)], fmt="none", ecolor=INK, capsize=2, label="95% by chance"
        )
        top = 1.05 * float(max(check.shares.max(), check.usual_high.max()))
        axes.set(xlabel="p-value", ylabel="share of records", xlim=(0, 1), ylim=(0, top))
        axes.yaxis.set_major_formatter(PERCENT)

    return _picture(key, title, draw, legend=3)


def false_alarms(key: str, title: str, checks: dict[str, Check], rate: float) -> Markup:
    """The false-alarm rate found by the rate asked for, on logarithmic axes.

    Args:
        key: Of the picture.
        title: What a screen reader says of it.
        checks: By name.
        rate: The bundle's own, which is marked.
    """

    def draw(axes: Axes) -> None:
        lowest = min([rate, *(1 / (max(each.references, each.records) + 1) for each in checks.values())])
        bottom = 0.5 * lowest
        axes.plot([lowest, 1], [lowest, 1], color=INK, linewidth=1)
        for (name, each), colour, dash in zip(checks.items(), (NORMAL, STRANGE), ("-", "--"), strict=False):
            axes.fill_between(
                each.asked, each.low.clip(bottom), each.high.clip(bottom), color=colour, alpha=0.15, linewidth=0
            )
            mark = "." if each.asked.size < 3 else None
            axes.plot(each.asked, each.found.clip(bottom), dash, color=colour, label=name, marker=mark)
        axes.axvline(rate, color=INK, linewidth=1, linestyle=":", label=f"asked for: {wording.rate(rate)}")
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(bottom, 1.3))
        axes.set(xlabel="false-alarm rate asked for", ylabel="false-alarm rate found")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_major_formatter(PERCENT)
            axis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True)

    return _picture(key, title, draw, legend=3)


def score(key: str, title: str, unit: str, groups: Mapping[str, Values], threshold: float) -> Markup:
    """How an anomaly score is distributed.

    Args:
        key: Of the picture.
        title: What a screen reader says of it.
        unit: Of the score.
        groups: (n,) of what is usual and, if there are any, (m,) of others, by what each is called.
        threshold: Above it a record is flagged.
    """

    def draw(axes: Axes) -> None:
        _histograms(axes, groups, score_range(*groups.values(), threshold=threshold), threshold, unit)

    return _picture(key, title, draw, legend=3)


def _histograms(
    axes: Axes, groups: Mapping[str, Values], shown: tuple[float, float], threshold: float, unit: str
) -> None:
    """The first group filled, the second as a line above it; what lies beyond is in the outermost bins."""
    low, high = shown
    edges = np.linspace(low, high, _SCORE_BINS + 1)
    for (name, values), colour, filled in zip(groups.items(), (NORMAL, STRANGE), (True, False), strict=False):
        if values.size:
            shares = np.histogram(values.astype(np.float64).clip(low, high), edges)[0] / values.size
            axes.stairs(shares, edges, color=colour, fill=filled, alpha=0.6 if filled else 1, label=name, lw=1.6)
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=":", label="threshold")
    axes.set(xlabel=unit, ylabel="share of its kind", xlim=(low, high), ylim=(0, None))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(6))


def score_range(normal: Values, *others: Values, threshold: float) -> tuple[float, float]:
    """The scores that are shown: all of them, but for those far from most normal records; beyond are the end bins."""
    every = np.concatenate([normal, *others, [threshold]]).astype(np.float64)
    first, last = np.quantile(normal.astype(np.float64), (0.005, 0.995))
    last = max(last, threshold)
    span = (last - first) or max(1.0, abs(last))
    low, high = max(every.min(), first - 0.5 * span), min(every.max(), last + 1.5 * span)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def latent(key: str, title: str, plane: Plane, strangest: npt.NDArray[np.int64]) -> Markup:
    """The latent means of normal records and anomalies.

    Args:
        key: Of the picture.
        title: What a screen reader says of it.
        plane: The points.
        strangest: Places among the normal ones that are numbered.
    """

    def draw(axes: Axes) -> None:
        if plane.normal.shape[1] == 1:
            _latent_line(axes, plane)
            return
        kinds = (("normal", plane.normal, NORMAL, "o", 2.4), ("anomalies", plane.anomalies, STRANGE, "^", 3.6))
        for name, points, colour, marker, size in kinds:
            if len(points):
                x, y = points[_evenly(len(points))].T
                opacity = 0.45 if name == "normal" else 0.8
                axes.plot(x, y, marker, color=colour, markersize=size, markeredgewidth=0, alpha=opacity, label=name)
        chosen = plane.normal[strangest]
        axes.plot(*chosen.T, "o", color=INK, markersize=7, fillstyle="none", label="strangest normal")
        for place, point in enumerate(chosen, start=1):
            axes.annotate(str(place), point, (5, 4), textcoords="offset points", annotation_clip=False)
        axes.margins(0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel=plane.axes[0], ylabel=plane.axes[1])
        axes.grid(visible=True)

    return _picture(key, title, draw, legend=3)


def _latent_line(axes: Axes, plane: Plane) -> None:
    every = np.concatenate([plane.normal, plane.anomalies])[:, 0]
    edges = np.histogram_bin_edges(every, _SCORE_BINS)
    groups = (("normal", plane.normal, NORMAL, True), ("anomalies", plane.anomalies, STRANGE, False))
    for name, points, colour, filled in groups:
        if len(points):
            shares = np.histogram(points[:, 0], edges)[0] / len(points)
            axes.stairs(shares, edges, color=colour, fill=filled, alpha=0.6 if filled else 1, label=name, lw=1.6)
    axes.set(xlabel=plane.axes[0], ylabel="share of its kind")
    axes.yaxis.set_major_formatter(PERCENT)


def kl_by_dimension(key: str, title: str, kl: Values) -> Markup:
    """(K,) mean KL of each latent dimension, in nats, the largest first."""

    def draw(axes: Axes) -> None:
        # Steps, not bars: of hundreds of dimensions those would be a mass of lines.
        axes.stairs(np.sort(kl)[::-1], np.arange(kl.size + 1) + 0.5, color=NORMAL, fill=True, alpha=0.75)
        axes.set(xlabel="latent dimension, by its KL", ylabel="KL (nats)", xlim=(0.5, kl.size + 0.5), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return _picture(key, title, draw)


def roc(key: str, title: str, measured_by: Detectors) -> Markup:
    """What every detector finds by its false alarms, low rates enlarged."""
    return _picture(key, title, lambda axes: detectors.draw_roc(axes, measured_by), legend=1)


def precision(key: str, title: str, measured_by: Detectors) -> Markup:
    """How many alarms of every detector are right, by what it finds."""
    return _picture(key, title, lambda axes: detectors.draw_precision(axes, measured_by), legend=1)


def field_fit(key: str, title: str, fit: FieldFit) -> Markup:
    """What was observed of a field against what was expected."""
    return _picture(key, title, (lambda axes: _numbers(axes, fit)) if _is_number(fit) else lambda a: _shares(a, fit))


def _is_number(fit: FieldFit) -> bool:
    return fit.field.kind == "numeric"


def _numbers(axes: Axes, fit: FieldFit) -> None:
    if len(fit.observed):
        x, y = fit.expected[:, 0], fit.observed[:, 0]
        both = np.concatenate([x, y])
        offset = fit.field.offset if isinstance(fit.field, NumericField) else None
        linear = offset if offset is not None else tails.linear_within(fit.observed[:, 0])
        low, high = _ends(both)
        if linear is not None:
            low, high = (linear * np.sinh(end) for end in _ends(np.arcsinh(both / linear)))
        axes.plot([low, high], [low, high], color=INK, linewidth=1)
        axes.plot(x.clip(low, high), y.clip(low, high), "o", color=NORMAL, markersize=2.6, markeredgewidth=0, alpha=0.5)
        tails.scale(axes, low, high, linear)
    axes.set(xlabel="expected", ylabel="observed")
    axes.grid(visible=True)


def _ends(values: Values) -> tuple[float, float]:
    """Where an axis begins and ends; what lies further out is drawn there."""
    low, high = np.quantile(values, (0.005, 0.995)).tolist()
    margin = 0.05 * (high - low) or max(0.5, 0.05 * abs(high))
    return low - margin, high + margin


def _shares(axes: Axes, fit: FieldFit) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1)
    expected, observed, error = reliability(fit.expected.ravel(), fit.observed.ravel())
    axes.errorbar(expected, observed, error, fmt="o", color=NORMAL, markersize=4, capsize=2, elinewidth=1)
    axes.set(xlabel="expected probability", ylabel="observed share", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
    axes.grid(visible=True)


def reliability(probability: Values, happened: Values) -> tuple[Values, Values, Values]:
    """Observed shares by expected probability, in bins of a width each that hold something.

    Args:
        probability: (m,) expected.
        happened: (m,) 0 or 1.

    Returns:
        Mean probability, share that happened, and twice the standard error of that share, of each bin.

    Reference:
        Murphy & Winkler 1977 (reliability diagrams).
    """
    bins = np.minimum((probability * _PROBABILITY_BINS).astype(np.int64), _PROBABILITY_BINS - 1)
    count = np.bincount(bins, minlength=_PROBABILITY_BINS)
    there = count > 0
    mean = np.bincount(bins, probability, _PROBABILITY_BINS)[there] / count[there]
    share = np.bincount(bins, happened, _PROBABILITY_BINS)[there] / count[there]
    return mean, share, 2 * np.sqrt(mean * (1 - mean).clip(0) / count[there])


def _evenly(count: int) -> npt.NDArray[np.int64]:
    """Places of at most `POINTS` of so many, evenly spread."""
    return np.unique(np.linspace(0, count - 1, POINTS).round().astype(np.int64))
