"""log p(x) of a table is a density of the numbers themselves, in their own units."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from scipy import stats
from torch import nn

from bundle.folder import store
from bundle.record.fields import BooleanField, ImageField, NumericField
from bundle.record.schema import ImageSchema, TableSchema
from tests.conftest import NAME
from training import modality
from training.config import NetworkConfig
from training.data import schema, transactions
from training.data.read import read
from training.evaluation.log_likelihood import log_likelihoods, log_slopes, measure
from training.export import graphs, runs
from training.network.scores import ScoringNetwork

PLAIN = NumericField(name="plain", missing_rate=0.1, mean=10.0, scale=4.0)
LOGGED = NumericField(name="logged", missing_rate=0.1, transform="log", offset=0.5, mean=2.0, scale=0.8)
SCHEMA = TableSchema(fields=(PLAIN, BooleanField(name="flag", missing_rate=0.1), LOGGED))


def test_the_slope_makes_a_density_of_the_numbers_out_of_one_of_the_standardised_values() -> None:
    numbers = np.array([[12.0, 30.0], [-3.0, 0.0], [10.0, -2.0], [np.nan, 1.0], [7.0, np.nan], [np.nan, np.nan]])
    found = log_slopes(SCHEMA, {"numeric": numbers, "boolean": np.ones((6, 1), np.int8)})
    expected = np.zeros(6)
    for column, field in enumerate((PLAIN, LOGGED)):
        for row, value in enumerate(numbers[:, column]):
            if np.isnan(value):
                continue
            if field.offset is None:
                density = stats.norm.logpdf(value, field.mean, field.scale)
            elif value >= 0:  # a lognormal that begins at -0.5
                density = stats.lognorm.logpdf(value, field.scale, -field.offset, np.exp(field.mean))
            else:
                z = (np.log(field.offset) + value / field.offset - field.mean) / field.scale
                density = stats.norm.logpdf(z) - np.log(field.offset * field.scale)
            z = float(field.standardise(np.array(value)))
            expected[row] += density - stats.norm.logpdf(z)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_records_without_numbers_have_none() -> None:
    flags = TableSchema(fields=(BooleanField(name="flag", missing_rate=0.1),))
    assert log_slopes(flags, {"boolean": np.ones((3, 1), np.int8)}).tolist() == [0.0] * 3
    images = ImageSchema(fields=(ImageField(name="i", height=2, width=2, channels=1),))
    assert log_slopes(images, {"image": np.zeros((2, 2, 2, 1), np.uint8)}).tolist() == [0.0] * 2


@pytest.mark.parametrize("draws", [100, 1100])
def test_many_draws_give_log_p_of_x_of_a_linear_model(draws: int) -> None:
    """x|z ~ N(W z + b, s^2) has a density that SciPy knows; its encoder is near the posterior, and no more."""
    weight = np.array([[0.9, 0.6], [0.2, -0.3], [-0.5, -0.3], [0.8, 0.5]])
    bias, deviation = np.array([0.3, -0.2, 0.0, 0.5]), 0.8
    fields = tuple(
        NumericField(
            name=f"x{column}",
            missing_rate=1e-9,
            mean=0.0,
            scale=1.0,
            likelihood="fixed-gaussian",
            fixed_scale=deviation,
        )
        for column in range(4)
    )
    record = TableSchema(fields=fields)
    vae = modality.of(record).vae(NetworkConfig(hidden=(), latent_size=2)).eval()
    precision = np.eye(2) + weight.T @ weight / deviation**2
    gain = np.linalg.solve(precision, weight.T) / deviation**2
    encoder, decoder = vae.encoder[-1], vae.decoder[-1]
    assert isinstance(encoder, nn.Linear)
    assert isinstance(decoder, nn.Linear)
    with torch.no_grad():
        encoder.weight.copy_(torch.from_numpy(np.vstack([gain, np.zeros_like(gain)])))
        encoder.bias.copy_(torch.from_numpy(np.concatenate([-gain @ bias, -np.log(np.diag(precision))])))
        decoder.weight.copy_(torch.from_numpy(weight))
        decoder.bias.copy_(torch.from_numpy(bias))
    scorer = ScoringNetwork(vae, None)
    given, free = graphs.arguments(record, 2)
    session = runs.session(graphs.to_onnx(scorer, given, scorer.names, free), threads=1)
    x = np.random.default_rng(0).normal(size=(30, 4))
    found = log_likelihoods(session, {"numeric": x}, 2, draws, seed=0)
    covariance = weight @ weight.T + deviation**2 * np.eye(4)
    error = found - stats.multivariate_normal(bias, covariance).logpdf(x)
    assert np.abs(error).max() < 5.0 / np.sqrt(draws)
    assert abs(error.mean()) < 1.0 / np.sqrt(draws)


@pytest.mark.slow
def test_a_bundle_is_measured_in_nats_of_the_numbers(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.parquet"
    pyarrow.parquet.write_table(transactions.simulate(60, seed=8, fraud_share=0.0), path)
    bundle = store.load(models, NAME, 1)
    manifest = bundle.manifest
    assert isinstance(manifest.record, TableSchema)
    found = measure(bundle, path, transactions.LABEL, transactions.NORMAL, 20)["normal"]
    tensors = schema.tensors(manifest.record, read(path), np.arange(60))
    scorer = runs.session(bundle.files["scorer.onnx"])
    standardised = log_likelihoods(scorer, tensors, manifest.latent_size, 20, manifest.training.seed)
    slopes = np.zeros(60)
    for column, field in enumerate(manifest.record.numeric):
        values = tensors["numeric"][:, column].astype(np.float64)
        own = -np.log(values + field.offset) if field.offset is not None else np.zeros(60)
        slopes += np.where(np.isnan(values), 0.0, own - np.log(field.scale))
    assert np.abs(slopes).min() > 1.0
    assert found.records == 60
    assert found.mean == pytest.approx(float((standardised + slopes).mean()), rel=1e-6)
