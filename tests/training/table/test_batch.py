"""Preprocessing: digits kept, everything finite and bounded, what is missing is zero, one slot for each category."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.record.fields import BooleanField, CategoricalField, Derived, NumericField
from bundle.record.schema import TableSchema
from training.table.batch import BOUND, FURTHEST, Preprocess, Standardised

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=200)

NUMERIC = (
    NumericField(name="epoch", missing_rate=0.1, mean=1.7e9, scale=3.0e6),
    NumericField(name="ratio", missing_rate=1e-6, mean=-0.25, scale=1e-3, likelihood="fixed-gaussian"),
    NumericField(name="huge", missing_rate=0.2, mean=1e308, scale=1e-300),
    NumericField(name="bytes", missing_rate=1e-6, transform="log", offset=0.25, mean=7.0, scale=2.0),
)
BOOLEAN = (BooleanField(name="new", missing_rate=0.3), BooleanField(name="paid", missing_rate=1e-5))
CATEGORICAL = (
    CategoricalField(name="country", missing_rate=0.01, vocabulary=("SE", "NO", "DK", "FI")),
    CategoricalField(name="only", missing_rate=1e-5, vocabulary=("one",)),
    CategoricalField(
        name="at_hour", missing_rate=0.1, vocabulary=("0", "1", "2"), derived=Derived(source="at", part="hour")
    ),
)
# Kinds stand mixed, as in users' files; the tensors go by kind.
MIXED = TableSchema(
    fields=(
        CATEGORICAL[0],
        NUMERIC[0],
        BOOLEAN[0],
        NUMERIC[1],
        CATEGORICAL[1],
        BOOLEAN[1],
        CATEGORICAL[2],
        NUMERIC[2],
        NUMERIC[3],
    )
)
SCHEMAS = {
    "mixed": MIXED,
    "numeric": TableSchema(fields=NUMERIC),
    "boolean": TableSchema(fields=BOOLEAN),
    "categorical": TableSchema(fields=CATEGORICAL),
    "never-missing": TableSchema(fields=(NUMERIC[1], BOOLEAN[1], CATEGORICAL[1])),
}


def records(schema: TableSchema, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random records with missing values and unknown categories."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, npt.NDArray[np.generic]] = {}
    if schema.numeric:
        deviations = rng.normal(size=(rows, len(schema.numeric)))
        values = deviations * [field.scale for field in schema.numeric] + [field.mean for field in schema.numeric]
        drawn["numeric"] = np.where(rng.uniform(size=values.shape) < 0.2, np.nan, values)
    if schema.boolean:
        drawn["boolean"] = rng.integers(-1, 2, size=(rows, len(schema.boolean))).astype(np.int8)
    if schema.categorical:
        drawn["categorical"] = np.stack([rng.integers(-1, field.size, rows) for field in schema.categorical], axis=1)
    return {kind: torch.from_numpy(values) for kind, values in drawn.items()}


def expected_input(schema: TableSchema, record: dict[str, torch.Tensor]) -> npt.NDArray[np.float64]:
    """The network's input, column by column, in float64."""
    columns, gaps = [], []
    for kind, dtype in schema.dtypes.items():
        for position, field in enumerate(getattr(schema, kind)):
            value = record[kind].numpy()[:, position].astype(dtype)
            missing = np.isnan(value) if isinstance(field, NumericField) else value == -1
            if field.missing_rate > 1e-4:
                gaps.append(missing)
            if isinstance(field, NumericField):
                number = np.nan_to_num(value)
                if field.offset is not None:
                    rising = np.log(np.abs(number) + field.offset)
                    number = np.where(number >= 0, rising, np.log(field.offset) + number / field.offset)
                exact = np.clip((number - field.mean) / field.scale, -1e12, 1e12)
                columns.append(np.where(missing, 0.0, BOUND * np.tanh(exact / BOUND)))
            elif isinstance(field, BooleanField):
                columns.append(np.select([missing, value == 1], [0.0, 1.0], -1.0))
            else:
                columns += [value == code for code in range(1, field.size)]
    return np.stack([*columns, *gaps], axis=1).astype(np.float64)


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_the_network_sees_bounded_numbers_signs_slots_and_gaps(name: str) -> None:
    schema = SCHEMAS[name]
    record = records(schema, 200)
    preprocess = Preprocess(schema)
    seen = preprocess(preprocess.standardise(record))
    assert seen.dtype == torch.float32
    assert seen.shape == (200, preprocess.width)
    np.testing.assert_allclose(seen.numpy(), expected_input(schema, record), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.5, -2.0, 1e3])
def test_large_numbers_keep_their_digits(deviation: float) -> None:
    schema = TableSchema(fields=(NumericField(name="id", missing_rate=0.1, mean=2.0**50, scale=0.5),))
    value = torch.tensor([[2.0**50 + 0.5 * deviation]], dtype=torch.float64)
    assert Preprocess(schema).standardise({"numeric": value}).numeric.item() == deviation


def test_standardised_numbers_are_clipped_far_out_and_nowhere_else() -> None:
    schema = TableSchema(fields=(NumericField(name="x", missing_rate=0.1, mean=0.0, scale=1.0),))
    given_ = [-1.7e308, -1e13, -1e12, -1e11, -5e-324, 5e-324, 1.0, 1e11, 1e12, 1e13, 1.7e308]
    value = torch.tensor(given_, dtype=torch.float64).unsqueeze(1)
    seen = Preprocess(schema).standardise({"numeric": value}).numeric.squeeze(1)
    np.testing.assert_allclose(seen.numpy(), np.clip(given_, -1e12, 1e12), rtol=1e-6, atol=1e-37)
    assert FURTHEST == 1e12


@PROPERTY
@given(st.lists(st.floats(allow_infinity=False), min_size=4, max_size=4))
def test_every_double_is_standardised_to_a_finite_number(values: list[float]) -> None:
    preprocess = Preprocess(SCHEMAS["numeric"])
    batch = preprocess.standardise({"numeric": torch.tensor([values], dtype=torch.float64)})
    assert batch.numeric.isfinite().all()
    assert batch.numeric.abs().max() <= FURTHEST
    seen = preprocess(batch)
    assert seen.isfinite().all()
    assert seen.abs().max() <= BOUND
    assert batch.numeric_present.tolist() == [[0.0 if np.isnan(value) else 1.0 for value in values]]


def test_what_the_network_sees_rises_with_the_value_and_stands_still_far_out() -> None:
    schema = TableSchema(fields=(NumericField(name="x", missing_rate=1e-6, mean=3.0, scale=2.0),))
    preprocess = Preprocess(schema)

    def seen(deviations: npt.NDArray[np.float64]) -> torch.Tensor:
        record = {"numeric": torch.from_numpy(3.0 + 2.0 * deviations).unsqueeze(1)}
        return preprocess(preprocess.standardise(record)).squeeze(1)

    assert (seen(np.linspace(-4 * BOUND, 4 * BOUND, 401)).diff() > 0).all()
    far = np.geomspace(50, 1e300, 50)
    assert (seen(far) == BOUND).all()
    assert (seen(-far) == -BOUND).all()
    near = np.linspace(-0.3, 0.3, 6)
    np.testing.assert_allclose(seen(near).numpy(), near, rtol=0.01)


@PROPERTY
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_the_graph_standardises_as_the_field_does(values: list[float], offset: float) -> None:
    fields = (
        NumericField(name="logged", missing_rate=0.1, transform="log", offset=offset, mean=1.0, scale=0.5),
        NumericField(name="plain", missing_rate=0.1, mean=1.0, scale=0.5),
    )
    column = np.array(values)
    record = {"numeric": torch.from_numpy(np.stack([column, column], axis=1))}
    seen = Preprocess(TableSchema(fields=fields)).standardise(record).numeric.numpy()
    for place, field in enumerate(fields):
        expected = np.clip(field.standardise(column), -FURTHEST, FURTHEST).astype(np.float32)
        np.testing.assert_allclose(seen[:, place], expected, rtol=2e-7, atol=2e-7)
    order = np.argsort(column)
    assert (np.diff(seen[order, 0]) >= 0).all(), "never less strange below the smallest value"


def test_a_missing_value_is_zero_and_only_its_gap_says_so() -> None:
    preprocess = Preprocess(MIXED)
    record = {
        "numeric": torch.full((1, 4), torch.nan, dtype=torch.float64),
        "boolean": torch.full((1, 2), -1, dtype=torch.int8),
        "categorical": torch.full((1, 3), -1, dtype=torch.int64),
    }
    batch = preprocess.standardise(record)
    assert not batch.present.any()
    assert not batch.numeric.any()
    # Fields that training never saw missing have no gap: epoch, huge, new, country and at_hour have one.
    np.testing.assert_array_equal(preprocess(batch).numpy(), [[0.0] * (preprocess.width - 5) + [1.0] * 5])


def test_presence_goes_by_kind_whatever_the_order_of_the_fields() -> None:
    record = {
        "numeric": torch.tensor([[torch.nan, 1.0, 1.0, 1.0]], dtype=torch.float64),
        "boolean": torch.tensor([[0, -1]], dtype=torch.int8),
        "categorical": torch.tensor([[0, -1, 2]], dtype=torch.int64),
    }
    assert Preprocess(MIXED).standardise(record).present.tolist() == [[0, 1, 1, 1, 1, 0, 1, 0, 1]]


def test_unknown_is_no_slot_and_every_category_is_one_of_its_own() -> None:
    schema = SCHEMAS["categorical"]
    preprocess = Preprocess(schema)
    slots = sum(field.size - 1 for field in schema.categorical)
    used: set[int] = set()
    for column, field in enumerate(schema.categorical):
        for code in range(field.size):
            record = torch.zeros(1, 3, dtype=torch.int64)
            record[0, column] = code
            seen = preprocess(preprocess.standardise({"categorical": record}))[0, :slots]
            where = seen.nonzero().flatten().tolist()
            assert len(where) == (0 if code == 0 else 1)
            assert seen.sum().item() == len(where)
            assert not used & set(where)
            used |= set(where)
    assert used == set(range(slots))


def test_taking_rows_takes_them_from_every_part() -> None:
    preprocess = Preprocess(MIXED)
    record = records(MIXED, 20)
    rows = torch.tensor([7, 3, 3, 19])
    taken = preprocess.standardise(record).take(rows)
    alone = preprocess.standardise({kind: values[rows] for kind, values in record.items()})
    assert isinstance(taken, Standardised)
    assert all(torch.equal(a, b) for a, b in zip(taken, alone, strict=True))


def test_the_given_tensors_stay_as_they_were() -> None:
    record = records(MIXED, 20)
    before = {kind: values.clone() for kind, values in record.items()}
    Preprocess(MIXED).standardise(record)
    assert all(torch.equal(record[kind].nan_to_num(), before[kind].nan_to_num()) for kind in record)


def test_the_statistics_travel_with_the_module() -> None:
    preprocess = Preprocess(MIXED)
    assert preprocess.mean.dtype == preprocess.scale.dtype == preprocess.offset.dtype == torch.float64
    assert set(preprocess.state_dict()) == {"mean", "scale", "logged", "offset", "slot_column", "slot_code", "gaps"}
