"""Encoders and decoders of images: dense, residual convolutional, and fully convolutional with a latent map."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bundle.record.fields import ImageField
from training.config import NetworkConfig
from training.errors import ConfigInvalid
from training.image.batch import ImagePreprocess, Images
from training.image.likelihood import ImageLikelihood, ImageParameters
from training.network.networks import ACTIVATIONS, dense
from training.network.parts import Parts

USUAL: Literal["residual"] = "residual"
"""The kind of network where a configuration names none."""
LATENT_SIZE = 32
"""Latent dimensions of dense and residual networks by default."""
LATENT_MAPS = 4
"""Maps of the latent of a fully convolutional network by default."""


class Networks(NamedTuple):
    """Both networks of a VAE of images.

    Args:
        encoder: From (B, C, H, W) to (B, 2 K): means, then log-variances; or to codes (B, K).
        decoder: From (B, K) to (B, outputs, H, W).
        latent_size: K; of a latent map of M by h by w, M * h * w.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    latent_size: int


def build(field: ImageField, config: NetworkConfig, codes: int) -> Parts[Images, ImageParameters]:
    """What a VAE of images is made of.

    Args:
        field: The image.
        config: Kind, widths, latent size and activation.
        codes: Numbers a latent dimension that the encoder gives: 2, mean and log-variance; or 1, the code itself.

    Raises:
        ConfigInvalid: The image's size is not a multiple of what the convolutions divide it by.
    """
    preprocess, likelihood = ImagePreprocess(field), ImageLikelihood(field)
    networks = both(field, likelihood.outputs, config, codes)
    set_bias(networks.decoder, likelihood.initial_bias(), field.height * field.width)
    return Parts(preprocess, likelihood, *networks, widest(networks, field), large=True)


def both(field: ImageField, outputs: int, config: NetworkConfig, codes: int) -> Networks:
    """The networks that a configuration asks for.

    Args:
        field: The image.
        outputs: Maps that the decoder gives.
        config: Kind, widths, latent size and activation.
        codes: Numbers a latent dimension that the encoder gives: 2, mean and log-variance; or 1, the code itself.

    Raises:
        ConfigInvalid: The image's size is not a multiple of what the convolutions divide it by.
    """
    match config.kind or USUAL:
        case "dense":
            return _dense(field, outputs, config, codes)
        case "residual":
            return _residual(field, outputs, config, codes)
        case "fully-convolutional":
            return _fully_convolutional(field, outputs, config, codes)


class Residual(nn.Module):
    """x + two convolutions of it; the last begins at 0, so that a deep network begins as the identity.

    Args:
        channels: Maps in and out.
        activation: Before each convolution.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks"; Zhang, Dauphin & Ma 2019, "Fixup
        initialization", for going without normalisation.
    """

    def __init__(self, channels: int, activation: type[nn.Module]) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.change = nn.Sequential(activation(), nn.Conv2d(channels, channels, 3, padding=1), activation(), last)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, h, w) to the same."""
        changed: Tensor = maps + self.change(maps)
        return changed


def _dense(field: ImageField, outputs: int, config: NetworkConfig, codes: int) -> Networks:
    latent_size = config.latent_size or LATENT_SIZE
    inputs, pixels = field.channels * field.height * field.width, field.height * field.width
    encoder = dense(inputs, config.hidden, codes * latent_size, config.activation)
    decoder = dense(latent_size, config.hidden[::-1], outputs * pixels, config.activation)
    unflatten = nn.Unflatten(1, (outputs, field.height, field.width))
    return Networks(nn.Sequential(nn.Flatten(), *encoder), nn.Sequential(*decoder, unflatten), latent_size)


def _residual(field: ImageField, outputs: int, config: NetworkConfig, codes: int) -> Networks:
    latent_size, activation = config.latent_size or LATENT_SIZE, ACTIVATIONS[config.activation]
    height, width = _divided(field, len(config.channels))
    down: list[nn.Module] = []
    channels: int = field.channels
    for wide in config.channels:
        down += [nn.Conv2d(channels, wide, 4, stride=2, padding=1), Residual(wide, activation)]
        channels = wide
    flat = channels * height * width
    up: list[nn.Module] = [nn.Linear(latent_size, flat), nn.Unflatten(1, (channels, height, width))]
    for wide in (*config.channels[-2::-1], outputs):
        up += [Residual(channels, activation), activation(), nn.ConvTranspose2d(channels, wide, 4, stride=2, padding=1)]
        channels = wide
    encoder = nn.Sequential(*down, activation(), nn.Flatten(), nn.Linear(flat, codes * latent_size))
    return Networks(encoder, nn.Sequential(*up), latent_size)


def _fully_convolutional(field: ImageField, outputs: int, config: NetworkConfig, codes: int) -> Networks:
    maps, activation = config.latent_size or LATENT_MAPS, ACTIVATIONS[config.activation]
    height, width = _divided(field, len(config.channels))
    down: list[nn.Module] = []
    channels: int = field.channels
    for wide in config.channels:
        down += [nn.Conv2d(channels, wide, 3, padding=1), activation(), nn.MaxPool2d(2)]
        channels = wide
    up: list[nn.Module] = [nn.Unflatten(1, (maps, height, width)), nn.Conv2d(maps, channels, 1)]
    for wide in (*config.channels[-2::-1], outputs):
        up += [activation(), nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(channels, wide, 3, padding=1)]
        channels = wide
    encoder = nn.Sequential(*down, nn.Conv2d(config.channels[-1], codes * maps, 1), nn.Flatten())
    # Pooling and up-sampling take half the time where a pixel's maps lie beside each other.
    networks = Networks(encoder, nn.Sequential(*up), maps * height * width)
    for network in networks[:2]:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return networks


def _divided(field: ImageField, halvings: int) -> tuple[int, int]:
    by = 2**halvings
    if field.height % by or field.width % by:
        raise ConfigInvalid(
            f"images {field.width} wide and {field.height} high cannot be halved {halvings} times: pad them to "
            f"multiples of {by}, or give network.channels fewer widths"
        )
    return field.height // by, field.width // by


def set_bias(decoder: nn.Sequential, bias: Tensor, pixels: int) -> None:
    """Begin the decoder's last layer at a bias of each map.

    Args:
        decoder: Of `build`.
        bias: (outputs,).
        pixels: H * W.
    """
    last = next(layer for layer in reversed(decoder) if not isinstance(layer, nn.Unflatten))
    assert isinstance(last, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(bias.repeat_interleave(pixels) if isinstance(last, nn.Linear) else bias)


@torch.no_grad()
def widest(networks: Networks, field: ImageField) -> int:
    """Numbers of one image in the widest layer of either network."""
    sizes: list[int] = []
    layers = [layer for network in networks[:2] for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(lambda _, __, output: sizes.append(output.numel())) for layer in layers]
    networks.encoder(torch.zeros(1, field.channels, field.height, field.width))
    networks.decoder(torch.zeros(1, networks.latent_size))
    for hook in hooks:
        hook.remove()
    return max(sizes)
