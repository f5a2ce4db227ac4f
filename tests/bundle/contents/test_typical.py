"""An example of a record: medians that occur and most frequent values, and no row of the data."""

import numpy as np
import pytest

from bundle.contents import typical
from bundle.contents.reference import FieldReference, references
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.schema import TableSchema


def reference(field: str, bins: tuple[str, ...], ratios: tuple[float, ...]) -> FieldReference:
    return FieldReference(field=field, bins=bins, ratios=ratios)


NUMBER = NumericField(name="n", mean=3.4567891, scale=1.0, missing_rate=0.1)
FLAG = BooleanField(name="f", missing_rate=0.1)
CATEGORY = CategoricalField(name="c", vocabulary=("(odd)", "a", "b"), missing_rate=0.1)


@pytest.mark.parametrize(
    ("bins", "ratios", "value"),
    [
        (("1.0", "2.0", "3.0", "+Inf", "(missing)"), (0.25, 0.25, 0.25, 0.25, 0.0), 2),
        (("1.0", "2.5", "3.0", "+Inf", "(missing)"), (0.1, 0.15, 0.1, 0.05, 0.6), 2.5),
        (("1.0", "+Inf", "(missing)"), (0.1, 0.9, 0.0), 1),
        (("+Inf", "(missing)"), (0.0, 1.0), 3.457),
    ],
)
def test_a_number_is_its_median(bins: tuple[str, ...], ratios: tuple[float, ...], value: float) -> None:
    record = typical.record(TableSchema(fields=(NUMBER,)), [reference("n", bins, ratios)])
    assert record == {"n": value}
    assert type(record["n"]) is type(value)


def test_flags_and_categories_are_the_most_frequent() -> None:
    schema = TableSchema(fields=(FLAG, CATEGORY))
    flags = reference("f", ("false", "true", "(missing)"), (0.3, 0.2, 0.5))
    categories = reference("c", ("\\(odd)", "a", "(other)", "(unknown)", "(missing)"), (0.4, 0.1, 0.5, 0.0, 0.0))
    assert typical.record(schema, [flags, categories]) == {"f": False, "c": "(odd)"}


def test_the_usual_values_of_a_number_are_those_of_the_rows_and_not_of_its_logarithm() -> None:
    amounts = np.random.default_rng(0).lognormal(3.5, 1.0, 4001)
    logged = NumericField(name="n", transform="log", offset=5.0, mean=3.0, scale=0.5, missing_rate=0.1)
    (found,) = references(TableSchema(fields=(logged,)), {"numeric": amounts[:, np.newaxis]})
    low, median, high = np.quantile(amounts, (0.1, 0.5, 0.9), method="inverted_cdf")
    said = typical.usual(logged, found)
    assert said == f"median {median:.6g}; from {low:.6g} to {high:.6g} in 80 % of the training rows"
    (found,) = references(TableSchema(fields=(logged,)), {"numeric": np.full((50, 1), 7.0)})
    assert typical.usual(logged, found) == "usually 7"
