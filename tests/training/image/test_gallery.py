"""Rows of images, by an encoder and a decoder of which everything is known, and by those of a network and of graphs."""

import io

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bundle.contents import explanation
from bundle.folder import store
from bundle.record.fields import ImageField
from bundle.record.images import Levels
from bundle.record.schema import ImageSchema
from tests.conftest import simulate_images
from training import modality
from training.config import NetworkConfig
from training.export import runs
from training.image import encoder_decoder, gallery
from training.image.encoder_decoder import EncoderDecoder, Latents
from training.pipeline import Trained


def encode(images: Levels) -> Latents:
    """The two pixels of an image, as a distance from the middle."""
    return images.reshape(len(images), 2).astype(np.float32) - 100.0


def expect(latents: Latents) -> Levels:
    return np.rint(latents + 100.0).clip(0, 255).astype(np.uint8).reshape(len(latents), 1, 2, 1)


TOY = EncoderDecoder(encode, expect, latent_size=2, deterministic=False)
IMAGES = np.array([[10, 20], [110, 90], [30, 40], [130, 80]], np.uint8).reshape(4, 1, 2, 1)


def test_images_stand_above_their_reconstructions() -> None:
    blind = TOY._replace(encode=lambda images: np.zeros((len(images), 2), np.float32))
    rows = gallery.reconstructions(blind, IMAGES)
    assert rows[0].tolist() == IMAGES.tolist()
    assert np.unique(rows[1]).tolist() == [100]


def test_a_traversal_moves_one_dimension_and_leaves_the_others() -> None:
    rows = gallery.traversals(TOY, IMAGES[0], np.array([1, 0]))
    assert rows.shape == (2, gallery.STEPS, 1, 2, 1)
    moved, kept = rows[0, :, 0, 1, 0], rows[0, :, 0, 0, 0]
    assert (moved[0], moved[7], moved[-1]) == (97, 100, 103)
    assert set(kept.tolist()) == {10}
    assert set(rows[1, :, 0, 1, 0].tolist()) == {20}


def test_an_interpolation_goes_from_one_image_to_the_other() -> None:
    rows = gallery.interpolations(TOY, IMAGES[:2], IMAGES[2:])
    assert rows[:, 0].tolist() == IMAGES[:2].tolist()
    assert rows[:, -1].tolist() == IMAGES[2:].tolist()
    assert rows[0, 7, 0, :, 0].tolist() == [20, 30]


def test_samples_are_drawn_from_the_prior_by_the_seed() -> None:
    wide = TOY._replace(expect=lambda latents: expect(20 * latents))
    drawn = gallery.samples(wide, 30, 40, seed=3)
    assert drawn.shape == (30, 40, 1, 2, 1)
    assert float(drawn.mean()) == pytest.approx(100, abs=2)
    assert float(drawn.std()) == pytest.approx(20, abs=1)
    assert np.array_equal(drawn, gallery.samples(wide, 30, 40, seed=3))
    assert not np.array_equal(drawn, gallery.samples(wide, 30, 40, seed=4))


def test_a_bundles_graphs_expect_what_its_explainer_expects(trained_images: Trained) -> None:
    bundle = store.load(trained_images.folder.parents[1], trained_images.name, trained_images.version)
    encoder, decoder, explainer = (
        runs.session(bundle.files[name]) for name in ("encoder.onnx", "decoder.onnx", explanation.FILE_NAME)
    )
    record = bundle.manifest.record
    assert isinstance(record, ImageSchema)
    field = record.field
    graphs = encoder_decoder.of_graphs(field, encoder, decoder, deterministic=False)
    images = simulate_images(20, seed=4)
    # Without noise the explainer's one draw is the posterior's mean.
    noise = np.zeros((1, bundle.manifest.latent_size), np.float32)
    (expected,) = explainer.run(["expected_image"], {"image": images, "noise": noise})
    found = graphs.expect(graphs.encode(images))
    assert np.abs(found - expected.astype(np.float64)).max() <= 0.5001
    assert graphs.latent_size == bundle.manifest.latent_size
    assert (graphs.encode(images) == encoder.run(["latent_mean"], {"image": images})[0]).all()
    assert np.load(io.BytesIO(bundle.files["noise.npy"])).shape[1] == graphs.latent_size


class Input:
    """What a session says of its input."""

    name, shape = "latent", ["records", 2]


class Decoder:
    """A session whose graph gives its latents as locations of two pixels."""

    def get_inputs(self) -> list[Input]:
        return [Input()]

    def run(self, names: list[str], given: dict[str, Latents]) -> list[npt.NDArray[np.float32]]:
        assert names == ["image_location", "image_log_scale"]
        location = given["latent"].reshape(-1, 1, 1, 2)
        return [location, np.zeros_like(location)]


@pytest.mark.parametrize(
    ("likelihood", "locations", "levels"),
    [
        ("bernoulli", [0.0, 9.0], [128, 255]),
        ("continuous-bernoulli", [-1.0, -9.0], [107, 28]),
        ("discretised-logistic", [12.6, 300.0], [13, 255]),
        ("fixed-gaussian", [-4.0, 99.0], [0, 99]),
    ],
)
def test_locations_are_logits_or_levels(likelihood: str, locations: list[float], levels: list[int]) -> None:
    field = ImageField.model_validate(
        {"name": "scan", "height": 2, "width": 2, "channels": 1, "likelihood": likelihood}
    )
    graphs = encoder_decoder.of_graphs(field, None, Decoder(), deterministic=False)
    assert graphs.expect(np.array([locations], np.float32)).ravel().tolist() == levels


def test_a_network_keeps_height_width_and_channels_apart() -> None:
    torch.manual_seed(0)
    field = ImageField(name="scan", height=8, width=12, channels=3)
    vae = (
        modality.of(ImageSchema(fields=(field,)))
        .vae(NetworkConfig(kind="residual", channels=(4,), latent_size=2))
        .eval()
    )
    network = encoder_decoder.of_network(vae)
    latents = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    found = network.expect(latents)
    assert found.shape == (3, 8, 12, 3)
    with torch.no_grad():
        expected = vae.likelihood.expected(vae.decode(torch.from_numpy(latents))).numpy()
    assert np.abs(found[1, 2, 5] - expected[1, :, 2, 5]).max() <= 0.5
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 12, 3)).astype(np.uint8)
    images.flags.writeable = False
    assert network.encode(images).shape == (4, 2)
