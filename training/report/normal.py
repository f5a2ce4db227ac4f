"""What is normal: the usual values of each field, from the training rows."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from bundle.contents.reference import MISSING_BIN, OTHER_BIN, UNKNOWN_BIN, FieldReference
from bundle.record.fields import NumericField
from training.report import formulas, wording
from training.report.evidence import Evidence

CATEGORIES = 5
"""Categories that are named, the most frequent ones."""
_QUANTILES = (0.05, 0.5, 0.95)
_SHOWN_CATEGORY = 24


@dataclass(frozen=True)
class Usual:
    """One line of the table.

    Args:
        name: The field's.
        kind: numeric, boolean or categorical.
        modelled: Of a number what is modelled, x or log(x + 0.5), as mathematics; empty of all else.
        middle: The median, or the most frequent value with its share.
        span: From the 5 % to the 95 % quantile, or the most frequent values with their shares.
        missing: Share of the training rows without it.
    """

    name: str
    kind: str
    modelled: Markup
    middle: str
    span: str
    missing: str


def usual_values(evidence: Evidence) -> list[Usual]:
    """The usual values of every field, in the order of the record."""
    lines = []
    for field, reference in zip(evidence.manifest.record.fields, evidence.manifest.reference, strict=True):
        missing = wording.percent(reference.ratios[-1])
        if isinstance(field, NumericField):
            column = evidence.training_column(field)
            low, median, high = map(float, np.quantile(column[~np.isnan(column)], _QUANTILES))
            middle, span = wording.number(median), f"{wording.number(low)} to {wording.number(high)}"
            modelled = formulas.transformed(field)
        else:
            modelled = Markup("")
            frequent = _frequent(reference)
            middle, span = frequent[0], ", ".join(frequent[:CATEGORIES])
            categories = field.size - 1 if field.kind == "categorical" else 2
            if categories > CATEGORIES:
                span += f", … ({categories} in all)"
        lines.append(Usual(wording.shown(field.name), field.kind, modelled, middle, span, missing))
    return lines


def _frequent(reference: FieldReference) -> list[str]:
    """The named values with their shares, the most frequent first."""
    apart = {OTHER_BIN, UNKNOWN_BIN, MISSING_BIN}
    pairs = [(name, ratio) for name, ratio in zip(reference.bins, reference.ratios, strict=True) if name not in apart]
    pairs.sort(key=lambda pair: -pair[1])
    return [f"{wording.shown(name.removeprefix(chr(92)), _SHOWN_CATEGORY)} {wording.percent(r)}" for name, r in pairs]
