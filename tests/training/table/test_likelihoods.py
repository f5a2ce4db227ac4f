"""Every head against scipy: values, normalisation, bounds of the learned variance, and what is missing."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from bundle.record.fields import BooleanField, CategoricalField, Derived, NumericField
from bundle.record.schema import TableSchema
from training.network.densities import bernoulli, categorical, gaussian, student_t, student_t_normaliser
from training.table.batch import Standardised
from training.table.likelihood import LARGEST_SCALE, JointLikelihood, NumericHead, Parameters

EXTREMES = (-1e30, -1e4, -120.0, -20.0, 0.0, 20.0, 120.0, 1e4, 1e30)

LEARNED = NumericField(name="learned", missing_rate=0.1, mean=5.0, scale=2.0)
FIXED = NumericField(name="fixed", missing_rate=0.2, mean=0.0, scale=1.0, likelihood="fixed-gaussian", fixed_scale=0.3)
SHARP = NumericField(name="sharp", missing_rate=0.3, mean=-1.0, scale=9.0, minimum_scale=0.01)
WIDE = NumericField(name="wide", missing_rate=1e-6, mean=-1.0, scale=9.0, minimum_scale=2.5)
UNIT = NumericField(name="unit", missing_rate=0.4, mean=0.0, scale=1.0, likelihood="fixed-gaussian")
NEW = BooleanField(name="new", missing_rate=0.25)
PAID = BooleanField(name="paid", missing_rate=0.05)
COUNTRY = CategoricalField(name="country", missing_rate=0.15, vocabulary=("SE", "NO", "DK"))
HOUR = CategoricalField(
    name="at_hour", missing_rate=0.35, vocabulary=("0", "1"), derived=Derived(source="at", part="hour")
)
WEEKDAY = CategoricalField(
    name="at_weekday",
    missing_rate=0.35,
    vocabulary=("monday", "tuesday", "friday", "sunday"),
    derived=Derived(source="at", part="weekday"),
)
MIXED = TableSchema(fields=(COUNTRY, LEARNED, HOUR, NEW, FIXED, WEEKDAY, SHARP, PAID, UNIT))
BY_KIND = (LEARNED, FIXED, SHARP, UNIT, NEW, PAID, COUNTRY, HOUR, WEEKDAY)


def double(values: object) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float64))


# Values, locations and log-variances, everything with everything; the last value is 1e6 deviations out and more.
VALUES, MEANS, LOG_VARIANCES = np.meshgrid(
    [-3.0, -1e-9, 0.0, 0.7, 1e6], [-2.0, 0.0, 0.5], [-9.0, -1.0, 0.0, 2.0, 12.0], indexing="ij"
)


def test_gaussian_is_that_of_scipy() -> None:
    expected = stats.norm.logpdf(VALUES, MEANS, np.exp(0.5 * LOG_VARIANCES))
    actual = gaussian(double(VALUES), double(MEANS), double(LOG_VARIANCES))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)


def test_gaussian_is_that_of_scipy_a_million_deviations_out() -> None:
    for deviation in (-1e6, 1e6):
        value = MEANS + deviation * np.exp(0.5 * LOG_VARIANCES)
        expected = stats.norm.logpdf(value, MEANS, np.exp(0.5 * LOG_VARIANCES))
        actual = gaussian(double(value), double(MEANS), double(LOG_VARIANCES))
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)
        assert (actual < -4e11).all()


@pytest.mark.parametrize("logit", [-120.0, -36.0, -20.5, -19.5, -3.0, -1e-8, 0.0, 0.4, 19.5, 20.5, 36.0, 120.0])
def test_bernoulli_is_that_of_scipy(logit: float) -> None:
    values = np.array([0.0, 1.0])
    expected = np.where(values == 1, special.log_expit(logit), special.log_expit(-logit))
    actual = bernoulli(double(values), double(logit))
    # torch's softplus is the identity above 20, where the difference is 2e-9.
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9)
    if abs(logit) < 19:
        np.testing.assert_allclose(actual.numpy(), stats.bernoulli.logpmf(values, special.expit(logit)), rtol=1e-9)


@pytest.mark.parametrize("size", [2, 3, 101])
@pytest.mark.parametrize("spread", [0.0, 1.0, 120.0])
def test_categorical_is_the_log_softmax_of_scipy(size: int, spread: float) -> None:
    logits = np.random.default_rng(size).uniform(-spread, spread, (4, 5, size))
    logits[..., 0], logits[..., -1] = -spread, spread
    expected = special.log_softmax(logits, axis=-1)
    np.testing.assert_allclose(categorical(double(logits), [size]).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", [(2, 3), (1, 5, 2), (7,)])
def test_categorical_fields_do_not_see_each_other(sizes: tuple[int, ...]) -> None:
    logits = np.random.default_rng(0).uniform(-120.0, 120.0, (4, 5, sum(sizes)))
    apart = np.split(logits, np.cumsum(sizes)[:-1], axis=-1)
    expected = np.concatenate([special.log_softmax(slots, axis=-1) for slots in apart], axis=-1)
    np.testing.assert_allclose(categorical(double(logits), sizes).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [-1e6, -120.0, 120.0, 1e6])
def test_categorical_does_not_see_what_all_its_logits_share(shift: float) -> None:
    logits = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(categorical(logits + shift, [4]), categorical(logits, [4]), atol=1e-9)


@pytest.mark.parametrize("mean", [-4.0, 0.3])
@pytest.mark.parametrize("log_variance", [-9.0, 0.0, 3.0])
def test_the_gaussian_density_integrates_to_one(mean: float, log_variance: float) -> None:
    deviation = math.exp(0.5 * log_variance)

    def density(value: float) -> float:
        return gaussian(double(value), double(mean), double(log_variance)).exp().item()

    total, _ = integrate.quad(density, mean - 12 * deviation, mean + 12 * deviation, points=[mean])
    assert total == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("extreme", [0.0, 1.0, 120.0])
def test_the_probabilities_of_all_values_sum_to_one(extreme: float) -> None:
    logits = extreme * torch.randn(20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    booleans = bernoulli(double([[[0.0]], [[1.0]]]), logits).exp().sum(dim=0)
    np.testing.assert_allclose(booleans.numpy(), 1.0, rtol=1e-8)
    for slots in torch.split(categorical(logits, [4, 3]), [4, 3], dim=-1):
        np.testing.assert_allclose(slots.exp().sum(dim=-1).numpy(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("logit", EXTREMES)
def test_every_logit_gives_finite_values_in_float32(logit: float) -> None:
    assert bernoulli(torch.tensor([0.0, 1.0]), torch.tensor(logit)).isfinite().all()
    logits = torch.tensor([[logit, 0.0, -logit]])
    assert categorical(logits, [3]).isfinite().all()


GAUSSIAN_HEADS = {
    "learned": (LEARNED,),
    "learned, of different floors": (LEARNED, SHARP, WIDE),
    "fixed": (FIXED,),
    "fixed, of different scales": (UNIT, FIXED),
    "fixed between learned": (LEARNED, FIXED, SHARP, UNIT, WIDE),
    "fixed first": (FIXED, UNIT, SHARP, LEARNED),
}


@pytest.fixture(params=GAUSSIAN_HEADS)
def fields(request: pytest.FixtureRequest) -> tuple[NumericField, ...]:
    return GAUSSIAN_HEADS[request.param]


def scale_of(field: NumericField, raw: float) -> float:
    """Standard deviation of one field, from the raw output that is its own."""
    if field.likelihood == "fixed-gaussian":
        return field.fixed_scale
    low, high = 2 * math.log(field.minimum_scale), 2 * math.log(max(LARGEST_SCALE, 2 * field.minimum_scale))
    return math.exp(0.5 * (low + (high - low) * float(special.expit(raw))))


def test_a_gaussian_head_gives_each_field_its_own_density(fields: tuple[NumericField, ...]) -> None:
    head = NumericHead(fields)
    learned = [position for position, field in enumerate(fields) if field.likelihood == "gaussian"]
    assert head.outputs == len(fields) + len(learned)
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(6, 3, head.outputs))
    value = rng.normal(size=(6, 3, len(fields)))
    value[0] = 1e6
    mean, log_variance = head(torch.from_numpy(raw.astype(np.float32)))
    actual = gaussian(torch.from_numpy(value.astype(np.float32)), mean, log_variance)
    assert actual.dtype == torch.float32
    for position, field in enumerate(fields):
        own = raw[..., len(fields) + learned.index(position)] if position in learned else np.zeros((6, 3))
        scale = np.vectorize(lambda raw, field=field: scale_of(field, raw))(own)
        expected = stats.norm.logpdf(value[..., position], raw[..., position], scale)
        np.testing.assert_allclose(actual[..., position].numpy(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("degrees", [2.1, 4.0, 30.0, 1e4])
def test_student_ts_density_is_scipys(degrees: float) -> None:
    rng = np.random.default_rng(0)
    value, mean, log_variance = rng.normal(size=(3, 50, 2)) * [[[1.0]], [[1.0]], [[2.0]]]
    value[0] = 1e6
    freedom = torch.full((2,), degrees, dtype=torch.float64)
    at, centre, spread = (torch.from_numpy(each) for each in (value, mean, log_variance))
    actual = student_t(at, centre, spread, freedom, student_t_normaliser(freedom))
    expected = stats.t.logpdf(value, degrees, mean, np.exp(0.5 * log_variance))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-8)


def test_each_field_of_a_head_keeps_its_own_tails() -> None:
    heavy = LEARNED.model_copy(update={"name": "heavy", "likelihood": "student-t", "degrees_of_freedom": 5.0})
    value, mean, log_variance = torch.tensor([[3.0, 3.0]]), torch.zeros(1, 2), torch.zeros(1, 2)
    mixed = NumericHead((LEARNED, heavy)).log_prob(value, mean, log_variance)
    assert mixed[0, 0].item() == pytest.approx(stats.norm.logpdf(3.0), rel=1e-5)
    assert mixed[0, 1].item() == pytest.approx(stats.t.logpdf(3.0, 5.0), rel=1e-5)
    alone = NumericHead((heavy, heavy)).log_prob(value, mean, log_variance)
    torch.testing.assert_close(alone, mixed[:, 1:].expand(1, 2))


@pytest.mark.parametrize("raw", EXTREMES)
def test_a_learned_deviation_stays_within_its_floor_and_ceiling(raw: float) -> None:
    fields = (LEARNED, SHARP, WIDE)
    _, log_variance = NumericHead(fields)(torch.full((2, 6), raw))
    for field, scale in zip(fields, np.exp(0.5 * log_variance.double().numpy()).T, strict=True):
        ceiling = max(LARGEST_SCALE, 2 * field.minimum_scale)
        assert (scale >= field.minimum_scale * (1 - 1e-6)).all()
        assert (scale <= ceiling * (1 + 1e-6)).all()
        if abs(raw) >= 120:
            np.testing.assert_allclose(scale, ceiling if raw > 0 else field.minimum_scale, rtol=1e-5)


def test_a_learned_deviation_rises_with_its_output() -> None:
    raw = torch.linspace(-8, 8, 100).unsqueeze(1).expand(-1, 2)
    _, log_variance = NumericHead((LEARNED,))(raw)
    assert (log_variance.diff(dim=0) > 0).all()


def test_every_learned_deviation_starts_near_its_ceiling_and_every_mean_at_zero() -> None:
    head = NumericHead((LEARNED, FIXED, SHARP))
    mean, log_variance = head(head.initial_bias())
    assert not mean.any()
    np.testing.assert_allclose(np.exp(0.5 * log_variance.numpy()), [LARGEST_SCALE, 0.3, LARGEST_SCALE], rtol=0.5)


ONE_KIND: dict[str, TableSchema] = {
    "numeric": TableSchema(fields=(LEARNED, FIXED)),
    "fixed": TableSchema(fields=(FIXED, UNIT)),
    "boolean": TableSchema(fields=(NEW, PAID)),
    "categorical": TableSchema(fields=(COUNTRY, HOUR)),
}


@pytest.mark.parametrize("kind", ONE_KIND)
def test_a_record_of_one_kind_of_field_has_a_likelihood_too(kind: str) -> None:
    joint = JointLikelihood(ONE_KIND[kind])
    bias = joint.initial_bias()
    assert bias.shape == (joint.outputs,)
    fields = joint.log_prob(record(ONE_KIND[kind], 5), joint(bias.expand(5, 3, -1)))
    assert fields.shape == (5, 3, 2)
    assert fields.isfinite().all()


def record(schema: TableSchema, rows: int, missing: float = 0.0) -> Standardised:
    """Random standardised records, each value missing with one probability."""
    generator = torch.Generator().manual_seed(2)

    def present(columns: int) -> Tensor:
        return (torch.rand(rows, columns, generator=generator) >= missing).float()

    codes = [torch.randint(0, field.size, (rows,), generator=generator) for field in schema.categorical]
    return Standardised(
        torch.randn(rows, len(schema.numeric), generator=generator),
        present(len(schema.numeric)),
        torch.randint(0, 2, (rows, len(schema.boolean)), generator=generator).float(),
        present(len(schema.boolean)),
        torch.stack(codes, dim=1) if codes else torch.zeros(rows, 0, dtype=torch.int64),
        present(len(schema.categorical)),
    )


def reference(batch: Standardised, parameters: Parameters) -> dict[str, np.ndarray]:
    """log p(x_j | z_l) (B, L) of each field of MIXED, value by value, as if nothing were missing."""
    mean = parameters.numeric_mean.double().numpy()
    deviation = np.exp(0.5 * parameters.numeric_log_variance.double().numpy())
    columns: dict[str, np.ndarray] = {}
    for position, field in enumerate(MIXED.numeric):
        value = batch.numeric[:, position].double().numpy()[:, None]
        columns[field.name] = stats.norm.logpdf(value, mean[..., position], deviation[..., position])
    for position, flag in enumerate(MIXED.boolean):
        logits = parameters.boolean_logits[..., position].double().numpy()
        true = batch.boolean[:, position].numpy()[:, None] == 1
        columns[flag.name] = np.where(true, special.log_expit(logits), special.log_expit(-logits))
    # The slots are COUNTRY's 4, HOUR's 3 and WEEKDAY's 5, unknown first in each.
    for position, (category, slots) in enumerate(((COUNTRY, (0, 4)), (HOUR, (4, 7)), (WEEKDAY, (7, 12)))):
        mass = special.log_softmax(parameters.categorical_logits[..., slice(*slots)].double().numpy(), axis=-1)
        columns[category.name] = np.stack([mass[b, :, batch.categorical[b, position]] for b in range(len(mass))])
    return columns


@pytest.fixture(params=[1.0, 120.0], ids=["ordinary", "extreme"])
def joint(request: pytest.FixtureRequest) -> Callable[[float], tuple[Standardised, Tensor, dict[str, np.ndarray]]]:
    """From a rate of missing values to records, their log-probabilities and the reference's."""
    spread = request.param
    likelihood = JointLikelihood(MIXED)
    raw = spread * torch.randn(40, 5, likelihood.outputs, generator=torch.Generator().manual_seed(3))

    def compute(missing: float) -> tuple[Standardised, Tensor, dict[str, np.ndarray]]:
        batch, parameters = record(MIXED, 40, missing), likelihood(raw)
        return batch, likelihood.log_prob(batch, parameters), reference(batch, parameters)

    return compute


Joint = Callable[[float], tuple[Standardised, Tensor, dict[str, np.ndarray]]]


def test_a_joint_likelihood_gives_each_field_its_own_term(joint: Joint) -> None:
    _, actual, expected = joint(0.0)
    assert tuple(field.name for field in MIXED.by_kind) == tuple(field.name for field in BY_KIND)
    assert JointLikelihood(MIXED).fields == len(BY_KIND)
    assert actual.shape == (40, 5, len(BY_KIND))
    for position, field in enumerate(BY_KIND):
        np.testing.assert_allclose(
            actual[..., position], expected[field.name], rtol=3e-5, atol=3e-5, err_msg=field.name
        )


def test_a_missing_value_contributes_exactly_zero_and_leaves_the_others_as_they_are(joint: Joint) -> None:
    batch, actual, expected = joint(0.5)
    missing = batch.present == 0
    assert missing.any(dim=0).all()
    assert (~missing).any(dim=0).all()
    for position, field in enumerate(BY_KIND):
        gone = missing[:, position]
        assert (actual[gone][..., position] == 0.0).all()
        there = expected[field.name][~gone.numpy()]
        np.testing.assert_allclose(actual[~gone][..., position], there, rtol=3e-5, atol=3e-5, err_msg=field.name)


@pytest.mark.parametrize("schema", [MIXED, *ONE_KIND.values()], ids=["mixed", *ONE_KIND])
def test_a_whole_record_s_term_is_the_sum_of_its_fields_and_gaps(schema: TableSchema) -> None:
    likelihood, batch = JointLikelihood(schema), record(schema, 40, missing=0.5)
    raw = torch.randn(5, 40, likelihood.outputs, generator=torch.Generator().manual_seed(3))
    fields = likelihood.log_prob(batch, likelihood(raw.transpose(0, 1))).sum(dim=-1)
    expected = (fields + likelihood.log_prob_of_gaps(batch).sum(dim=-1, keepdim=True)).T
    torch.testing.assert_close(likelihood.log_prob_of_records(batch, likelihood(raw)), expected, rtol=1e-5, atol=1e-4)


def test_being_missing_or_not_has_the_probability_of_the_missing_rate() -> None:
    schema = TableSchema(fields=tuple(field for field in MIXED.fields if field not in (HOUR, WEEKDAY)))
    likelihood, batch = JointLikelihood(schema), record(schema, 50, missing=0.5)
    rates = np.array([field.missing_rate for field in BY_KIND if field not in (HOUR, WEEKDAY)])
    expected = np.where(batch.present.numpy() == 0, np.log(rates), np.log1p(-rates))
    np.testing.assert_allclose(likelihood.log_prob_of_gaps(batch).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("missing", [0.0, 1.0])
def test_a_timestamp_is_missing_once_however_many_fields_derive_from_it(missing: float) -> None:
    other = HOUR.model_copy(update={"name": "seen_hour", "derived": Derived(source="seen", part="hour")})
    schema = TableSchema(fields=(HOUR, other, COUNTRY, WEEKDAY))
    terms = JointLikelihood(schema).log_prob_of_gaps(record(schema, 1, missing)).double().sum().item()
    expected = [math.log(rate) if missing else math.log1p(-rate) for rate in (0.35, 0.35, 0.15)]
    assert terms == pytest.approx(sum(expected), rel=1e-6)


def test_a_rare_gap_keeps_its_small_term() -> None:
    schema = TableSchema(fields=(WIDE,))
    present = JointLikelihood(schema).log_prob_of_gaps(record(schema, 1))
    assert present.item() == pytest.approx(-1.0000005e-6, rel=1e-6)


@pytest.mark.parametrize("field", BY_KIND, ids=lambda field: field.name)
def test_over_being_missing_and_every_value_a_field_has_probability_one(field: NumericField | BooleanField) -> None:
    schema = TableSchema(fields=(field,))
    # As the trapezoid rule sees it: no weight for missing, steps for numbers, one for each discrete value.
    values = torch.linspace(-40, 40, 40001)
    count = {"numeric": len(values), "boolean": 2, "categorical": getattr(field, "size", 0)}[field.kind]
    batch = record(schema, count + 1)
    batch = {
        "numeric": batch._replace(numeric=torch.cat([values, torch.zeros(1)]).unsqueeze(1)),
        "boolean": batch._replace(boolean=torch.arange(count + 1).clamp(max=1).unsqueeze(1).float()),
        "categorical": batch._replace(categorical=torch.arange(count + 1).clamp(max=count - 1).unsqueeze(1)),
    }[field.kind]
    there = torch.cat([torch.ones(count, 1), torch.zeros(1, 1)])
    batch = batch._replace(**{f"{field.kind}_present": there})
    likelihood = JointLikelihood(schema)
    raw = torch.randn(likelihood.outputs, generator=torch.Generator().manual_seed(4)).expand(count + 1, 1, -1)
    terms = likelihood.log_prob(batch, likelihood(raw))[:, 0] + likelihood.log_prob_of_gaps(batch)
    mass = terms.double().exp().squeeze(1)
    step = 0.002 if field.kind == "numeric" else 1.0
    assert (step * mass[:-1].sum() + mass[-1]).item() == pytest.approx(1.0, abs=1e-5)
