"""Observed against expected: what a share explained means, and which fields are shown."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.metrics import brier_score_loss, r2_score

from bundle.record.fields import NumericField
from tests.training.report.conftest import TINY, gather
from training.report import page
from training.report.evidence import Evidence
from training.report.field_fit import SHOWN, explained, field_fits
from training.report.pictures import reliability


def test_of_numbers_it_is_r_squared_and_of_probabilities_briers_skill() -> None:
    random = np.random.default_rng(0)
    observed = random.normal(size=(50, 1)) * 1e200
    expected = observed + 1e199 * random.normal(size=(50, 1))
    assert explained(observed, expected) == pytest.approx(r2_score(observed / 1e200, expected / 1e200))
    happened, probability = (random.random((50, 1)) < 0.4).astype(float), random.random((50, 1))
    plain = brier_score_loss(happened[:, 0], np.full(50, happened.mean()))
    skill = 1 - brier_score_loss(happened[:, 0], probability[:, 0]) / plain
    assert explained(happened, probability) == pytest.approx(skill)
    assert explained(np.ones((5, 1)), np.zeros((5, 1))) is None
    assert explained(np.empty((0, 1)), np.empty((0, 1))) is None


def test_numbers_are_in_their_own_units_and_missing_ones_left_out(mixed: Evidence) -> None:
    fits = {fit.field.name: fit for fit in field_fits(mixed)}
    assert set(fits) == {"height", "visits", "member", "colour"}
    column = mixed.column(mixed.held_out, fits["height"].field)
    assert np.isnan(column).any()
    np.testing.assert_array_equal(fits["height"].observed[:, 0], column[~np.isnan(column)])
    assert 140 < fits["height"].expected.mean() < 200
    np.testing.assert_allclose(fits["colour"].expected.sum(axis=1), 1.0, rtol=1e-5)
    assert (fits["colour"].observed.sum(axis=1) == 1).all()
    shares = [fit.explained for fit in field_fits(mixed)]
    assert shares == sorted(share for share in shares if share is not None)


def test_of_a_logarithm_the_share_is_that_of_the_logarithm_and_the_picture_has_the_numbers() -> None:
    random = np.random.default_rng(4)
    size = random.normal(size=600)
    columns = {"size": size, "amount": np.exp(3 + size + 0.1 * random.normal(size=600))}
    settings = {"network": {"hidden": (16,), "latent_size": 1}, "fit": {"epochs": 60}}
    evidence = gather(pa.table(columns), TINY | settings)
    fits = {fit.field.name: fit for fit in field_fits(evidence)}
    field = fits["amount"].field
    assert isinstance(field, NumericField)
    assert field.transform == "log"
    assert (fits["amount"].expected >= 0).all()
    logs = [field.standardise(values[:, 0]) for values in (fits["amount"].observed, fits["amount"].expected)]
    assert fits["amount"].explained == pytest.approx(r2_score(*logs), abs=1e-6)
    assert r2_score(*logs) > 0.9
    written = page.write(evidence, 1).decode()
    assert f'<td class="math"><math alttext="{field.formula}">' in written
    assert '<td class="math"><math alttext="x">' in written, "and of the other number that it is as it is"


def test_of_many_fields_those_that_come_back_worst_are_shown() -> None:
    random = np.random.default_rng(3)
    rows, told = 400, 24
    size = random.normal(size=rows)
    columns: dict[str, npt.NDArray[np.float64] | npt.NDArray[np.bool]] = {}
    columns |= {f"told_{index}": size + 0.01 * random.normal(size=rows) for index in range(told)}
    columns |= {f"noise_{index}": random.normal(size=rows) for index in range(SHOWN - 1)}
    columns["flag"] = random.random(rows) < 0.4
    settings = {"network": {"hidden": (16,), "latent_size": 1}, "fit": {"epochs": 60}}
    evidence = gather(pa.table(columns), TINY | settings)
    shown = {fit.field.name for fit in field_fits(evidence)}
    assert shown == {name for name in columns if not name.startswith("told")}
    assert f"the {SHOWN} of {len(columns)} fields" in page.write(evidence, 1).decode()


def test_reliability_bins_hold_every_probability() -> None:
    probability = np.array([0.0, 0.1, 0.1, 0.6, 1.0])
    mean, share, error = reliability(probability, np.array([0.0, 0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(mean, [0.2 / 3, 0.6, 1.0])
    np.testing.assert_allclose(share, [1 / 3, 1.0, 1.0])
    assert error[-1] == 0.0
