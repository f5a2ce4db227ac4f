"""The bins of each field, and how records fall into them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.contents.manifest import Manifest
from bundle.contents.reference import MOST_CATEGORIES, FieldBins, FieldReference, references
from bundle.record.fields import BooleanField, CategoricalField, ImageField, NumericField
from bundle.record.records import encode_records
from bundle.record.schema import ImageSchema, TableSchema


def numeric(values: list[float | None]) -> FieldReference:
    """The bins of one number."""
    schema = TableSchema(fields=(NumericField(name="x", missing_rate=0.1, mean=0.0, scale=1.0),))
    column = np.array([np.nan if value is None else value for value in values])[:, None]
    (reference,) = references(schema, {"numeric": column})
    return reference


def counted(schema: TableSchema, reference: tuple[FieldReference, ...], records: list[list[object]]) -> dict[str, int]:
    """Bins that hold a record, as FIELD=BIN."""
    bins = FieldBins(schema, reference)
    counts = bins.count(encode_records(schema, records))
    return {f"{field}={name}": int(n) for (field, name), n in zip(bins.labels, counts, strict=True) if n}


def test_bins_of_every_kind_and_their_shares(schema: TableSchema, reference: tuple[FieldReference, ...]) -> None:
    colour, amount, paid = reference
    assert colour.bins == ("red", "7", "true", "0.5", "-3", "(unknown)", "(missing)")
    assert colour.ratios == (0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.25)
    assert amount.bins == ("1.0", "2.0", "3.0", "+Inf", "(missing)")
    assert amount.ratios == (0.25, 0.25, 0.25, 0.0, 0.25)
    assert (paid.bins, paid.ratios) == (("false", "true", "(missing)"), (0.25, 0.5, 0.25))


def test_records_fall_into_their_bins(schema: TableSchema, reference: tuple[FieldReference, ...]) -> None:
    records: list[list[object]] = [
        ["red", 2.0, False],
        ["mauve", 2.5, None],
        [None, 9.0, True],
        ["-3", None, True],
        ["red", -1e300, True],
    ]
    assert counted(schema, reference, records) == {
        "colour=red": 2,
        "colour=-3": 1,
        "colour=(unknown)": 1,
        "colour=(missing)": 1,
        "amount=1.0": 1,
        "amount=2.0": 1,
        "amount=3.0": 1,
        "amount=+Inf": 1,
        "amount=(missing)": 1,
        "paid=false": 1,
        "paid=true": 3,
        "paid=(missing)": 1,
    }


def test_numbers_that_repeat_have_fewer_bins_and_none_of_them_twice() -> None:
    assert numeric([float(value) for value in range(1, 101)]).bins[:2] == ("10.0", "20.0")
    assert numeric([*[0.0] * 95, *[1.0] * 5]).bins == ("0.0", "+Inf", "(missing)")
    assert numeric([None, None]).bins == ("+Inf", "(missing)")


def test_rare_categories_share_a_bin_and_no_name_is_taken_for_another() -> None:
    names = ("(missing)", "(other)", "\\(other)", *(f"c{index}" for index in range(MOST_CATEGORIES)))
    schema = TableSchema(fields=(CategoricalField(name="c", missing_rate=0.1, vocabulary=names),))
    twice = [name for name in names[:-2] for _ in range(2)]
    records: list[list[object]] = [[name] for name in (*twice, *names[-2:])]
    (reference,) = references(schema, encode_records(schema, records))
    assert len(reference.bins) == MOST_CATEGORIES + 3
    asked: list[list[object]] = [["(missing)"], ["(other)"], ["\\(other)"], ["c19"], ["c18"], ["new"]]
    assert counted(schema, (reference,), asked) == {
        "c=\\(missing)": 1,
        "c=\\(other)": 1,
        "c=\\\\(other)": 1,
        "c=(other)": 2,
        "c=(unknown)": 1,
    }


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=60))
def test_every_record_falls_into_one_bin_of_each_field(values: list[float | None]) -> None:
    schema = TableSchema(
        fields=(
            NumericField(name="x", missing_rate=0.1, mean=0.0, scale=1.0),
            BooleanField(name="b", missing_rate=0.1),
            NumericField(name="y", missing_rate=0.1, mean=0.0, scale=1.0),
        )
    )
    column = np.array([np.nan if value is None else value for value in values])
    tensors = {"numeric": np.stack([column, column[::-1]], 1), "boolean": np.ones((len(column), 1), np.int8)}
    made = references(schema, tensors)
    bins = FieldBins(schema, made)
    counts = dict(zip(bins.labels, bins.count(tensors).tolist(), strict=True))
    for each in made:
        assert sum(counts[each.field, name] for name in each.bins) == len(values)
        assert sum(each.ratios) == pytest.approx(1.0)
    bounds = [float(name) for name in made[0].bins[:-1]]
    for index, bound in enumerate(bounds):
        below = -np.inf if not index else bounds[index - 1]
        assert counts["x", made[0].bins[index]] == int(((column > below) & (column <= bound)).sum())


@pytest.mark.parametrize(
    "bins", [("1.0", "(missing)"), ("2.0", "1.0", "+Inf", "(missing)"), ("a", "+Inf", "(missing)"), ("true", "false")]
)
def test_bins_that_are_not_of_their_kind_are_refused(manifest: Manifest, bins: tuple[str, ...]) -> None:
    document = manifest.model_dump(mode="json")
    document["reference"][1] |= {"bins": list(bins), "ratios": [0.0] * len(bins)}
    with pytest.raises(ValueError, match=r"amount|could not convert"):
        Manifest.model_validate(document)


def test_references_of_other_fields_are_refused(manifest: Manifest) -> None:
    document = manifest.model_dump(mode="json")
    document["reference"].pop()
    with pytest.raises(ValueError, match="not those of the fields"):
        Manifest.model_validate(document)


def test_images_fall_into_bins_of_their_mean_level() -> None:
    schema = ImageSchema(fields=(ImageField(name="scan", height=2, width=3, channels=1),))
    levels = np.arange(100, dtype=np.uint8)
    tensors = {"image": np.broadcast_to(levels[:, None, None, None], (100, 2, 3, 1))}
    (reference,) = references(schema, tensors)
    assert reference.bins == ("9.0", "19.0", "29.0", "39.0", "49.0", "59.0", "69.0", "79.0", "89.0", "+Inf")
    assert reference.ratios == (0.1,) * 10
    bins = FieldBins(schema, (reference,))
    bright = np.full((2, 2, 3, 1), 255, np.uint8)
    bright[1] = 0
    assert bins.count({"image": bright}).tolist() == [1, *[0] * 8, 1]
    with pytest.raises(ValueError, match="not those of an image field"):
        FieldBins(schema, (FieldReference(field="scan", bins=("+Inf", "(missing)"), ratios=(0.5, 0.5)),))
