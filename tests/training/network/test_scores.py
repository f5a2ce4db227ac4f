"""What is served: no underflow, no neighbour, no order, finite for every record, and stranger the further out."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import special
from torch.distributions import Normal, kl_divergence

from bundle.contents.golden import tolerance
from bundle.contents.scores import TABLE_SCORES
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.schema import TableSchema
from tests.training.last import last
from training import modality
from training.config import NetworkConfig
from training.export.parity import largest_term
from training.network.noise import noise_table
from training.network.objectives import log_likelihood
from training.network.scores import LIKELIHOOD_OUTPUTS, Decoder, Encoder, ScoringNetwork, log_mean_exp
from training.network.vae import VAE

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=150)
Arrays = dict[str, npt.NDArray[np.generic]]

NUMERIC = (
    NumericField(name="amount", missing_rate=0.1, mean=30.0, scale=8.0),
    NumericField(name="epoch", missing_rate=1e-6, mean=1.7e9, scale=3.0e6),
    NumericField(name="fixed", missing_rate=0.2, mean=0.0, scale=1.0, likelihood="fixed-gaussian", fixed_scale=0.5),
    NumericField(name="sharp", missing_rate=0.1, mean=-4.0, scale=1e-3, minimum_scale=0.01),
    NumericField(name="huge", missing_rate=0.1, mean=1e308, scale=1e-300),
    NumericField(name="flat", missing_rate=0.1, mean=-1e307, scale=1e307),
)
BOOLEAN = (BooleanField(name="new", missing_rate=0.05), BooleanField(name="paid", missing_rate=0.3))
CATEGORICAL = (
    CategoricalField(name="country", missing_rate=0.1, vocabulary=("SE", "NO", "DK")),
    CategoricalField(name="only", missing_rate=0.1, vocabulary=("one",)),
)
SCHEMA = TableSchema(fields=(*CATEGORICAL, *NUMERIC, *BOOLEAN))


def build(schema: TableSchema, latent_size: int = 3, seed: int = 0) -> VAE:
    """A random model whose scores depend on z a good deal."""
    torch.manual_seed(seed)
    vae = modality.of(schema).vae(NetworkConfig(hidden=(12, 8), latent_size=latent_size))
    with torch.no_grad():
        for weights in vae.parameters():
            weights.mul_(1.5)
    return vae


VAE_ = build(SCHEMA)
NOISE = noise_table(3, 0)


def records(rows: int, seed: int = 0) -> Arrays:
    """Random records of SCHEMA, a tenth of the values missing."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(rows, 6)) * [field.scale for field in NUMERIC] + [field.mean for field in NUMERIC]
    numeric[rng.uniform(size=numeric.shape) < 0.1] = np.nan
    return {
        "numeric": numeric,
        "boolean": rng.integers(-1, 2, (rows, 2)).astype(np.int8),
        "categorical": np.stack([rng.integers(-1, field.size, rows) for field in CATEGORICAL], axis=1),
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A thousand small runs, in which threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


OF_LIKELIHOOD = [score for score in TABLE_SCORES if score.output in LIKELIHOOD_OUTPUTS]


@torch.no_grad()
def scores(vae: VAE, record: Arrays, noise: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    outputs = ScoringNetwork(vae, None)(
        {kind: torch.from_numpy(values) for kind, values in record.items()}, torch.from_numpy(noise)
    )
    return {name: output.double().numpy() for name, output in zip(LIKELIHOOD_OUTPUTS, outputs, strict=True)}


@pytest.mark.parametrize("value", [0.0, -1.5, 700.0, -1e4, -1e30, 1e30])
def test_the_log_mean_exp_of_one_value_is_the_value(value: float) -> None:
    assert log_mean_exp(torch.tensor([[value]])).tolist() == [torch.tensor(value).item()]


@pytest.mark.parametrize("shift", [0.0, -1e3, -1e6, -1e30, 1e30])
def test_log_mean_exp_neither_underflows_nor_overflows(shift: float) -> None:
    values = shift + 3 * torch.randn(64, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = special.logsumexp(values.numpy(), axis=0) - math.log(64)
    np.testing.assert_allclose(log_mean_exp(values).numpy(), expected, rtol=1e-14)
    assert log_mean_exp(values.float()).isfinite().all()


@PROPERTY
@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40))
def test_log_mean_exp_lies_between_the_mean_and_the_largest(values: list[float]) -> None:
    drawn = torch.tensor(values, dtype=torch.float64)
    result = log_mean_exp(drawn).item()
    slack = 1e-9 + 1e-12 * drawn.abs().max().item()
    assert drawn.mean().item() - slack <= result <= drawn.max().item() + slack
    assert result >= drawn.max().item() - math.log(len(values)) - slack
    assert log_mean_exp(drawn.flip(0)).item() == pytest.approx(result, rel=1e-12, abs=1e-9)


def test_the_outputs_are_those_that_the_manifest_names() -> None:
    assert {score.output for score in OF_LIKELIHOOD} == set(LIKELIHOOD_OUTPUTS) - {"latent_mean"}
    assert all(score.sign == -1 for score in OF_LIKELIHOOD)


@pytest.mark.parametrize("samples", [1, 4, 256])
def test_each_score_is_its_definition(samples: int) -> None:
    vae, noise = build(TableSchema(fields=(NUMERIC[0], *BOOLEAN, CATEGORICAL[0]))), NOISE[:samples]
    record = records(50)
    record = {**record, "numeric": record["numeric"][:, :1], "categorical": record["categorical"][:, :1]}
    actual = scores(vae, record, noise)
    with torch.no_grad():
        batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in record.items()})
        posterior = vae.posterior(batch)
        likelihood = log_likelihood(vae, batch, vae.draw(posterior, torch.from_numpy(noise))).double()
    mean, deviation = posterior.mean.double(), torch.exp(0.5 * posterior.log_variance.double())
    latent = mean.unsqueeze(1) + deviation.unsqueeze(1) * torch.from_numpy(noise)
    prior = Normal(0.0, 1.0).log_prob(latent).sum(-1)
    proposal = Normal(mean.unsqueeze(1), deviation.unsqueeze(1)).log_prob(latent).sum(-1)
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(-1)
    # Few fields: the densities themselves can be averaged.
    expected = {
        "log_reconstruction_probability": likelihood.exp().mean(-1).log(),
        "elbo": likelihood.mean(-1) - kl,
        "iwae": (likelihood + prior - proposal).exp().mean(-1).log(),
        "expected_log_likelihood": likelihood.mean(-1),
        "latent_mean": mean,
    }
    assert list(actual) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values.numpy(), rtol=1e-5, atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def wide() -> VAE:
    fields = tuple(NumericField(name=f"x{number}", missing_rate=0.1, mean=0.0, scale=1.0) for number in range(2000))
    return build(TableSchema(fields=fields))


@pytest.mark.parametrize("samples", [1, 16, 256])
def test_two_thousand_dimensions_do_not_underflow(wide: VAE, samples: int) -> None:
    value = np.random.default_rng(0).standard_normal((3, 2000))
    actual = scores(wide, {"numeric": value}, NOISE[:samples])
    with torch.no_grad():
        batch = wide.standardise({"numeric": torch.from_numpy(value)})
        latent = wide.draw(wide.posterior(batch), torch.from_numpy(NOISE[:samples]))
        drawn = log_likelihood(wide, batch, latent).double().numpy()
    assert (drawn < -1500).all()
    assert (np.exp(drawn) == 0.0).all()
    expected = special.logsumexp(drawn, axis=-1) - math.log(samples)
    np.testing.assert_allclose(actual["log_reconstruction_probability"], expected, rtol=1e-5)
    assert all(np.isfinite(values).all() for values in actual.values())


@pytest.mark.parametrize("samples", [1, 16, 256])
def test_a_record_scores_alike_alone_in_a_batch_and_in_another_order(samples: int) -> None:
    record = records(1000)
    together = scores(VAE_, record, NOISE[:samples])
    order = np.random.default_rng(1).permutation(1000)
    shuffled = scores(VAE_, {kind: values[order] for kind, values in record.items()}, NOISE[:samples])
    for name, values in together.items():
        allowed = 1e-5 * len(SCHEMA.fields) + 1e-5 * np.abs(values)
        assert (np.abs(shuffled[name] - values[order]) <= allowed[order]).all(), name
        for row in (0, 1, 500, 999):
            alone = scores(VAE_, {kind: column[row : row + 1] for kind, column in record.items()}, NOISE[:samples])
            assert (np.abs(alone[name][0] - values[row]) <= allowed[row]).all(), name


def test_the_encoder_and_the_decoder_are_those_of_the_scores() -> None:
    record = {kind: torch.from_numpy(values) for kind, values in records(20).items()}
    with torch.no_grad():
        mean, log_variance = Encoder(VAE_)(record)
        decoder = Decoder(VAE_)
        assert decoder.names == ("numeric_mean", "numeric_log_variance", "boolean_logits", "categorical_logits")
        widths = [output.shape for output in decoder(mean)]
        posterior = VAE_.posterior(VAE_.standardise(record))
        torch.testing.assert_close(decoder(mean)[1][:, 2], torch.full((20,), 2 * math.log(0.5)))
    assert widths == [(20, 6), (20, 6), (20, 2), (20, 6)]
    torch.testing.assert_close((mean, log_variance), tuple(posterior), rtol=0, atol=0)


doubles = st.floats(allow_infinity=False) | st.sampled_from([1.7e308, -1.7e308, 5e-324, -5e-324, 1e-310, -0.0])
codes = [st.integers(-1, field.size - 1) for field in CATEGORICAL]
raw_records = st.tuples(
    st.lists(doubles, min_size=6, max_size=6), st.lists(st.integers(-1, 1), min_size=2, max_size=2), st.tuples(*codes)
)


@PROPERTY
@given(st.lists(raw_records, min_size=1, max_size=5), st.sampled_from([1, 4, 256]))
def test_every_record_has_finite_scores(
    drawn: list[tuple[list[float], list[int], tuple[int, int]]], samples: int
) -> None:
    numeric, boolean, categorical = zip(*drawn, strict=True)
    record: Arrays = {
        "numeric": np.array(numeric, np.float64),
        "boolean": np.array(boolean, np.int8),
        "categorical": np.array(categorical, np.int64),
    }
    for name, values in scores(VAE_, record, NOISE[:samples]).items():
        assert np.isfinite(values).all(), name


@pytest.mark.parametrize("likelihood", ["gaussian", "fixed-gaussian"])
@pytest.mark.parametrize("scale", [1e-100, 1e-10, 1e-6, 1e-3, 1e3, 1e100])
def test_whatever_scale_a_schema_accepts_scores_stay_finite(likelihood: str, scale: float) -> None:
    try:
        field = NumericField.model_validate(
            {
                "name": "x",
                "missing_rate": 0.1,
                "mean": 0.0,
                "scale": 1.0,
                "likelihood": likelihood,
                "minimum_scale": scale,
                "fixed_scale": scale,
            }
        )
    except ValidationError:
        return
    value = np.array([[0.0], [1.0], [-1e6], [1e300], [np.nan]])
    vae = build(TableSchema(fields=(field,)))
    with torch.no_grad():
        last(vae.decoder).bias[1:] = -100.0  # a learned deviation at its floor
    for name, values in scores(vae, {"numeric": value}, NOISE).items():
        assert np.isfinite(values).all(), name


def pushed(field: int, sign: float, row: int) -> Arrays:
    """One record again and again, one number of it further and further out."""
    far = np.concatenate([np.geomspace(50, 1e4, 30), np.geomspace(1e5, 1e300, 60)])
    record = {kind: np.repeat(values[row : row + 1], len(far), axis=0) for kind, values in records(30).items()}
    record["numeric"][:, field] = NUMERIC[field].mean + sign * far * NUMERIC[field].scale
    return record


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("field", range(4), ids=lambda field: NUMERIC[field].name)
@pytest.mark.parametrize("sign", [-1.0, 1.0], ids=["down", "up"])
def test_a_record_pushed_further_out_never_becomes_less_strange(field: int, sign: float, seed: int) -> None:
    vae = build(SCHEMA, seed=seed)
    for samples in (1, 16):
        record = pushed(field, sign, row=seed)
        outputs = scores(vae, record, NOISE[:samples])
        allowed = tolerance(len(SCHEMA.fields), largest_term(vae, record, NOISE[:samples]))
        for score in OF_LIKELIHOOD:
            strangeness = score.sign * outputs[score.output]
            assert (np.diff(strangeness) >= -allowed[1:]).all(), score.name
            assert strangeness[29] > strangeness[0] + 1e3, score.name


def test_the_noise_decides_the_draws_and_its_first_rows_are_all_that_few_draws_use() -> None:
    record, other = records(20), NOISE.copy()
    other[16:] = 0.0
    for name, values in scores(VAE_, record, NOISE[:16]).items():
        np.testing.assert_array_equal(scores(VAE_, record, other[:16])[name], values)
        if name != "latent_mean":
            assert (scores(VAE_, record, NOISE[16:32])[name] != values).any()
