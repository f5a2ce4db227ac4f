"""The noise table: scrambled Sobol points mapped to normals, so that a score is a function of its record."""

import numpy as np
import numpy.typing as npt
import torch

ROWS = 256


def noise_table(latent_size: int, seed: int) -> npt.NDArray[np.float32]:
    """Points that fill the standard normal evenly; the first 2^k of them do so by themselves.

    Args:
        latent_size: K.
        seed: Seed of the scrambling.

    Returns:
        eps, (256, K) float32.

    Reference:
        Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points"; Buchholz et al. 2018 for variational bounds.
    """
    engine = torch.quasirandom.SobolEngine(latent_size, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    points = engine.draw(ROWS, dtype=torch.float64)
    # A point on the border of the unit cube would be an infinity.
    inside = points.clamp(1e-9, 1 - 1e-9)
    table: npt.NDArray[np.float32] = torch.special.ndtri(inside).float().numpy()
    return table
