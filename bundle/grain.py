"""Runs of whole grains, so that a record's scores are the same to the bit alone and in any batch."""

import numpy as np

from bundle.fields import Tensors

GRAIN = 4
"""Records. ONNX Runtime computes a CPU's functions four numbers at a time and what is left over one by one, with
another rounding; with whole grains nothing is left over."""


def padded(tensors: Tensors) -> Tensors:
    """Some records, the last of them repeated until their number is a multiple of `GRAIN`.

    Args:
        tensors: The graph's record inputs, B records, one at least.
    """
    missing = -len(next(iter(tensors.values()))) % GRAIN
    if not missing:
        return tensors
    return {kind: np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) for kind, values in tensors.items()}
