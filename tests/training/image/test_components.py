"""The scores of images beyond the likelihood's own, the explainer's maps, and the autoencoder that has neither."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from bundle.contents.scores import IMAGE_SCORES, scores_of
from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from tests.training.export.with_extremes import with_extremes
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.export import graphs, parity, runs
from training.export.explainer import ExportedExplainer
from training.fitting.fit import Fit
from training.image import contrived
from training.image.batch import Images
from training.image.components import ImageComponents
from training.image.statistics import code_length
from training.network.noise import noise_table
from training.network.scores import ScoringNetwork

pytestmark = pytest.mark.slow

SIZE = 8
FIELD = ImageField(name="scan", height=SIZE, width=SIZE, channels=1)
SCHEMA = ImageSchema(fields=(FIELD,))
NETWORK = NetworkConfig(kind="residual", channels=(8, 12), latent_size=3)
Levels = npt.NDArray[np.uint8]


def bars(rows: int, seed: int) -> Levels:
    """Images of one bright bar on a dark, noisy ground."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (rows, 1, 1, 1)) + random.integers(0, 30, (rows, SIZE, SIZE, 1))
    for image, place in zip(pixels, random.integers(0, SIZE - 2, rows), strict=True):
        image[:, place : place + 2] += random.integers(120, 180)
    return pixels.clip(0, 255).astype(np.uint8)


class Trained(NamedTuple):
    """A model of bars, with everything that is fitted for its scores."""

    scorer: ScoringNetwork
    noise: npt.NDArray[np.float32]
    session: onnxruntime.InferenceSession

    def scores(self, images: Levels) -> runs.Outputs:
        """By the exported graph."""
        return runs.score(self.session, {"image": images}, self.noise[:4])


@pytest.fixture(scope="module")
def trained() -> Trained:
    torch.manual_seed(0)
    vae = modality.of(SCHEMA).vae(NETWORK)
    train, held_out = (Images(torch.from_numpy(bars(rows, seed))) for seed, rows in enumerate((400, 120)))
    Fit(
        vae,
        train,
        held_out,
        ObjectiveConfig(),
        FitConfig(epochs=15, batch_size=32, learning_rate=3e-3),
        names=["image"],
        seed=0,
    ).run()
    noise = noise_table(vae.latent_size, 0)
    scorer = ScoringNetwork(vae.eval(), ImageComponents(vae, train, held_out, torch.from_numpy(noise[:4]), 0)).eval()
    given, free = graphs.arguments(SCHEMA, vae.latent_size)
    return Trained(scorer, noise, runs.session(graphs.to_onnx(scorer, given, scorer.names, free), threads=1))


def test_the_graph_gives_every_score_as_torch_does(trained: Trained) -> None:
    assert {each.output for each in IMAGE_SCORES} == set(trained.scorer.names) - {"latent_mean"}
    assert scores_of(SCHEMA, trained.scorer.names) == IMAGE_SCORES
    assert (
        parity.verify_parity(
            trained.scorer, trained.session, with_extremes(trained.scorer.vae, {"image": bars(40, 5)}), trained.noise
        )
        < 1.0
    )


def test_images_that_are_all_the_same_can_be_exported() -> None:
    torch.manual_seed(0)
    schema = ImageSchema(fields=(FIELD.model_copy(update={"likelihood": "gaussian"}),))
    vae = modality.of(schema).vae(NETWORK)
    levels = np.repeat(bars(1, 0), 150, axis=0)
    same = Images(torch.from_numpy(levels))
    Fit(
        vae,
        same,
        same,
        ObjectiveConfig(),
        FitConfig(epochs=1, batch_size=32),
        names=["image"],
        seed=0,
    ).run()
    noise = noise_table(vae.latent_size, 0)
    components = ImageComponents(vae.eval(), same, same, torch.from_numpy(noise[:4]), 0)
    scorer = ScoringNetwork(vae, components).eval()
    given, free = graphs.arguments(schema, vae.latent_size)
    session = runs.session(graphs.to_onnx(scorer, given, scorer.names, free), threads=1)
    assert parity.verify_parity(scorer, session, with_extremes(scorer.vae, {"image": levels}), noise) < 1.0


def test_fresh_normal_images_are_usual_and_strange_ones_are_not(trained: Trained) -> None:
    combined = trained.scores(bars(300, 7))["combined"]
    assert abs(float(np.median(combined))) < 0.5
    random = np.random.default_rng(1)
    strange = {
        "noise": random.integers(0, 256, (20, SIZE, SIZE, 1)).astype(np.uint8),
        "constant": np.broadcast_to(random.integers(0, 256, (20, 1, 1, 1)), (20, SIZE, SIZE, 1)).astype(np.uint8),
        "turned": np.ascontiguousarray(bars(20, 9).transpose(0, 2, 1, 3)),
        "inverted": 255 - bars(20, 10),
    }
    threshold = float(np.quantile(combined, 0.99))
    for name, images in strange.items():
        assert (trained.scores(images)["combined"] > threshold).mean() > 0.9, name


def test_complexity_is_the_bound_in_bits_less_the_code(trained: Trained) -> None:
    images = bars(6, 11)
    found = trained.scores(images)
    code = code_length(Images(torch.from_numpy(images)).levels).numpy()
    np.testing.assert_allclose(found["complexity"], -found["elbo"] / math.log(2) - code, rtol=1e-4, atol=0.05)


def test_a_score_does_not_depend_on_the_batch(trained: Trained) -> None:
    images = bars(30, 13)
    together, alone = trained.scores(images), trained.scores(images[7:8])
    for name, values in alone.items():
        np.testing.assert_allclose(values[0], together[name][7], rtol=1e-4, atol=1e-3)


def test_pixels_of_an_explanation_add_up_to_the_bound(trained: Trained) -> None:
    explainer = ExportedExplainer(trained.scorer.vae, SCHEMA, trained.noise)
    images = bars(12, 15)
    images[0, 2, 3, 0] = 255  # a speck
    images[0, 2, 4, 0] = 0
    found = explainer.explain({"image": images}, 4)
    elbo = trained.scores(images)["elbo"]
    np.testing.assert_allclose(found["pixel_surprisal"].sum(axis=(1, 2)) + found["kl"], -elbo, rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(found["conditional_surprisal"][:, 0], -elbo, rtol=1e-4, atol=0.02)
    assert np.unravel_index(found["pixel_surprisal"][0].argmax(), (SIZE, SIZE)) in {(2, 3), (2, 4)}
    assert found["expected_image"].shape == images.shape
    assert found["expected_image"].min() >= 0
    assert found["expected_image"].max() <= 255
    assert explainer.verify_parity(contrived.extremes({"image": images})) < 1.0
    usual = explainer.usual({"image": bars(100, 17)}, 4)
    assert usual.pixels is not None
    assert usual.pixels[0] < usual.pixels[1]


def test_an_autoencoder_gives_its_error_and_its_code() -> None:
    torch.manual_seed(0)
    vae = modality.of(SCHEMA).vae(NETWORK, deterministic=True)
    train, held_out = (Images(torch.from_numpy(bars(rows, seed))) for seed, rows in enumerate((400, 120)))
    objective = ObjectiveConfig(kind="autoencoder")
    run = Fit(
        vae, train, held_out, objective, FitConfig(epochs=8, batch_size=32, learning_rate=3e-3), names=["image"], seed=0
    )
    run.run()
    assert run.history[-1].kl == 0.0
    assert run.history[-1].log_likelihood > run.history[0].log_likelihood + 20.0
    scorer = ScoringNetwork(vae.eval(), None).eval()
    assert [score.name for score in scores_of(SCHEMA, scorer.names)] == ["expected_log_likelihood"]
    given, free = graphs.arguments(SCHEMA, vae.latent_size)
    session = runs.session(graphs.to_onnx(scorer, given, scorer.names, free), threads=1)
    noise = noise_table(vae.latent_size, 0)
    images = {"image": bars(9, 3)}
    # The noise stays an input, as in every bundle, and has no effect.
    one, many = (runs.score(session, images, noise[:samples]) for samples in (1, 16))
    np.testing.assert_allclose(one["expected_log_likelihood"], many["expected_log_likelihood"], rtol=1e-5)
    assert parity.verify_parity(scorer, session, with_extremes(scorer.vae, images), noise) < 1.0
