"""Dense trunks, and hidden layers in another precision."""

import pytest
import torch
from torch import nn

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.fitting.fit import Fit, hidden_precision
from training.image.batch import Images
from training.network.networks import dense, through
from training.network.vae import VAE


def images(rows: int) -> Images:
    shades = torch.arange(rows, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Images((shades * 3).expand(rows, 8, 8, 1).contiguous())


def vae() -> VAE:
    torch.manual_seed(0)
    field = ImageField(name="image", height=8, width=8, channels=1, likelihood="bernoulli")
    return modality.of(ImageSchema(fields=(field,))).vae(NetworkConfig(channels=(4, 8), latent_size=2))


def test_without_hidden_layers_a_network_is_linear() -> None:
    network = dense(5, (), 3, "silu")
    given = torch.randn(4, 5)
    assert [type(layer) for layer in network] == [nn.Linear]
    torch.testing.assert_close(network(2 * given) - network(given), network(given) - network(torch.zeros(4, 5)))


def test_the_last_layer_keeps_its_precision() -> None:
    seen: list[torch.dtype] = []
    network = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4), nn.Unflatten(1, (2, 2)))
    for layer in network:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    given = torch.randn(32, 8)
    rounded, exact = through(network, given, torch.bfloat16), through(network, given, torch.float32)
    assert seen[:4] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert rounded.shape == (32, 2, 2)
    assert 0 < (rounded - exact).abs().max() < 0.03


def test_only_images_on_a_gpu_are_trained_in_half_the_bits() -> None:
    assert hidden_precision(vae(), torch.device("cuda")) is torch.bfloat16
    assert hidden_precision(vae(), torch.device("cpu")) is torch.float32


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_either_precision_trains_and_leaves_float32(precision: torch.dtype) -> None:
    model = vae()
    config = FitConfig(epochs=15, batch_size=16, learning_rate=1e-2)
    run = Fit(model, images(64), images(16), ObjectiveConfig(), config, names=["image"], seed=0)
    run.precision = precision
    run.run()
    assert run.history[-1].validation_elbo > run.history[0].validation_elbo + 1
    assert model.precision is torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
