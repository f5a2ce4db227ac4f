"""What an image says of itself: against plain loops, and on images whose answer is known."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.image.statistics import code_length, roughness, scales

RANDOM = np.random.default_rng(0)


def as_levels(images: npt.NDArray[np.generic]) -> torch.Tensor:
    """(B, H, W, C) as (B, C, H, W) float32."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)


def by_loops(image: npt.NDArray[np.int64]) -> float:
    """Bits of one (H, W, C) image, pixel by pixel."""
    bits = 0.0
    height, width, channels = image.shape
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                left = image[row, column - 1, channel] if column else 0
                above = image[row - 1, column, channel] if row else 0
                corner = image[row - 1, column - 1, channel] if row and column else 0
                if corner >= max(left, above):
                    predicted = min(left, above)
                elif corner <= min(left, above):
                    predicted = max(left, above)
                else:
                    predicted = left + above - corner
                bits += 2 * math.log2(1 + abs(int(image[row, column, channel]) - int(predicted))) + 1
    return bits


def test_noise_takes_more_of_the_code_than_its_levels_do() -> None:
    """A known weakness: the length has no upper end, where levels as they are take 8 bits each."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 3, 32, 32)).astype(np.float32)
    assert code_length(torch.from_numpy(noise)).mean().item() / noise[0].size == pytest.approx(12.8, abs=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_length_is_that_of_plain_loops(channels: int) -> None:
    images = RANDOM.integers(0, 256, (5, 6, 7, channels))
    assert code_length(as_levels(images)).tolist() == pytest.approx([by_loops(image) for image in images], rel=1e-5)


def test_a_constant_image_has_the_shortest_code_and_noise_a_long_one() -> None:
    images = np.zeros((3, 16, 16, 1), np.int64)
    images[1] = 200
    images[2, :, :, 0] = RANDOM.integers(0, 256, (16, 16))
    black, grey, noise = code_length(as_levels(images)).tolist()
    assert black == 256  # a bit for each level
    assert grey == pytest.approx(256 + 2 * math.log2(201), rel=1e-5)  # and what the first one is
    assert noise > 10 * black


def test_roughness_is_the_mean_square_difference_at_each_scale() -> None:
    image = RANDOM.integers(0, 256, (1, 8, 12, 3))
    shares = image[0] / 255.0
    expected = []
    for size in (1, 2, 4):
        shrunk = shares.reshape(8 // size, size, 12 // size, size, 3).mean(axis=(1, 3))
        expected += [np.square(np.diff(shrunk, axis=1)).mean(), np.square(np.diff(shrunk, axis=0)).mean()]
    assert roughness(as_levels(image))[0].tolist() == pytest.approx(np.log(np.array(expected) + 1e-6), abs=1e-4)


def test_roughness_of_any_image_is_finite() -> None:
    images = np.stack([np.full((28, 28, 1), level) for level in (0, 255)])
    assert torch.isfinite(roughness(as_levels(images))).all()


@pytest.mark.parametrize(("height", "width", "count"), [(2, 2, 1), (2, 64, 1), (4, 4, 2), (28, 28, 4), (64, 64, 4)])
def test_as_many_scales_as_leave_two_pixels_a_side(height: int, width: int, count: int) -> None:
    assert scales(height, width) == count
    assert roughness(torch.zeros(1, 1, height, width)).shape == (1, 2 * count)
