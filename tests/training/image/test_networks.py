"""VAEs of images: every network and likelihood learns, exports and scores as torch does."""

import numpy as np
import pytest
import torch

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.errors import ConfigInvalid
from training.export import graphs, runs
from training.export.reference import Reference
from training.fitting.fit import Fit
from training.image.batch import Images
from training.image.likelihood import ImageLikelihood, ImageParameters
from training.network.noise import noise_table
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork
from training.network.vae import VAE

KINDS = ("dense", "residual", "fully-convolutional")
LIKELIHOODS = ("discretised-logistic", "bernoulli", "continuous-bernoulli", "gaussian", "fixed-gaussian")


def field(likelihood: str = "discretised-logistic", channels: int = 1, size: int = 8) -> ImageField:
    return ImageField(name="scan", height=size, width=size, channels=channels, likelihood=likelihood)


def model(kind: str, image: ImageField) -> VAE:
    torch.manual_seed(0)
    network = NetworkConfig(kind=kind, hidden=(32,), channels=(8, 12), latent_size=3)
    return modality.of(ImageSchema(fields=(image,))).vae(network)


def bars(rows: int, channels: int = 1, seed: int = 0, size: int = 8) -> np.ndarray:
    """Images of one bright bar on a dark ground, both of chance levels, (rows, size, size, channels) uint8."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (rows, 1, 1, channels)) + random.integers(0, 10, (rows, size, size, channels))
    for image, place in zip(pixels, random.integers(0, size - 2, rows), strict=True):
        image[:, place : place + 2] += random.integers(120, 180)
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_learns(kind: str, channels: int) -> None:
    vae = model(kind, field(channels=channels))
    train, held_out = (Images(torch.from_numpy(bars(rows, channels, seed))) for seed, rows in enumerate((300, 60)))
    config = FitConfig(epochs=15, batch_size=32, learning_rate=3e-3)
    fitted = Fit(vae, train, held_out, ObjectiveConfig(), config, names=["image"], seed=0)
    best = fitted.run()
    assert best > fitted.history[0].validation_elbo + 20.0
    assert fitted.history[-1].kl > 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_graph_scores_as_torch_does(kind: str, likelihood: str) -> None:
    image = field(likelihood, channels=3)
    schema = ImageSchema(fields=(image,))
    vae = model(kind, image).eval()
    scorer = ScoringNetwork(vae, None).eval()
    given, free = graphs.arguments(schema, vae.latent_size)
    session = runs.session(graphs.to_onnx(scorer, given, scorer.names, free), threads=1)
    random = np.random.default_rng(0)
    extremes = np.stack([np.zeros(image.shape), np.full(image.shape, 255), random.integers(0, 256, image.shape)])
    records = {"image": np.concatenate([extremes.astype(np.uint8), bars(6, 3)])}
    noise = noise_table(vae.latent_size, 0)
    for samples in (1, 4):
        found = runs.score(session, records, noise[:samples])
        expected = Reference(scorer, lambda draws: vae.widest * draws)(runs.Inputs(records, noise[:samples]))
        assert set(found) == set(LIKELIHOOD_OUTPUTS)
        for name, values in expected.items():
            assert np.isfinite(values).all()
            np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_pixels_add_up_and_a_stranger_level_is_less_likely(likelihood: str) -> None:
    image = field(likelihood)
    head = ImageLikelihood(image)
    raw = torch.randn(2, 5, head.outputs, 8, 8, generator=torch.Generator().manual_seed(0))
    parameters = head(raw)
    batch = Images(torch.from_numpy(bars(2)))
    by_field = head.log_prob(batch, parameters)
    assert by_field.shape == (2, 5, 1)
    pixels = head.log_prob_of_pixels(batch.levels.unsqueeze(1), parameters)
    torch.testing.assert_close(by_field[..., 0], pixels.sum(dim=(2, 3, 4)))
    turned = ImageParameters(
        parameters.location.transpose(0, 1),
        parameters.log_scale if parameters.log_scale.dim() == 1 else parameters.log_scale.transpose(0, 1),
    )
    torch.testing.assert_close(head.log_prob_of_records(batch, turned), by_field[..., 0].T)
    assert (head.log_prob_of_gaps(batch) == 0).all()
    expected = head.expected(parameters)
    assert (expected >= 0).all()
    assert (expected <= 255).all()
    near = head.log_prob_of_pixels(expected.round(), parameters)
    far = head.log_prob_of_pixels(255.0 * (expected < 128), parameters)
    assert (near > far).float().mean() > 0.95


def test_a_size_that_the_strides_do_not_divide_is_refused() -> None:
    for kind in ("residual", "fully-convolutional"):
        with pytest.raises(
            ConfigInvalid, match="10 wide and 10 high cannot be halved 2 times: pad them to multiples of 4"
        ):
            model(kind, field(size=10))
    assert model("dense", field(size=10)).widest == 200


def test_the_latent_of_a_fully_convolutional_network_is_a_map() -> None:
    vae = model("fully-convolutional", field(size=16))
    assert vae.latent_size == 3 * 4 * 4
    # A change in one place of the map stays near that place of the image.
    latent = torch.zeros(1, 3, 4, 4)
    moved = latent.clone()
    moved[0, :, 0, 0] = 3.0
    with torch.no_grad():
        change = (vae.decoder(moved.flatten(1)) - vae.decoder(latent.flatten(1))).abs().amax(dim=(0, 1))
    assert change[:4, :4].max() > 0
    assert change[13:, 13:].max() == 0
