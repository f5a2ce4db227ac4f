"""A few points that stand for many: what of the training records a bundle keeps."""

import warnings

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

_ITERATIONS = 8
"""Of Lloyd's algorithm; with one, 2 000 centres detected less: 0.005 of average precision, on 30 sets with one seed."""


def coreset(points: Tensor, size: int, seed: int) -> Tensor:
    """The centres of k-means, begun at points drawn at random; all the points where they are no more than asked for.

    A centre is the mean of the records about it, so it lies closer to where records are dense than one of them would,
    and what lies in sparse regions keeps centres of its own: 1 000 centres detect as well as 4 000 points at random.

    Args:
        points: (n, D) float32; what is left in them is of no use where there are more than are kept.
        size: Points that are kept at most.
        seed: Of the points that it begins at.

    Returns:
        (min(n, size), D) float32, the same for the same points and seed.

    Reference:
        Lloyd 1982, "Least squares quantization in PCM"; He, Xu & Deng 2003 for distances to the centres of clusters as
        an anomaly score.
    """
    if len(points) <= size:
        return points
    # Here, as in `training.evaluation.baselines`.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    begun = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:size]
    # Sums of several threads are added in the order in which they end.
    with threadpool_limits(1), warnings.catch_warnings():
        # It warns where there are fewer distinct points than centres; some centres are then the same, which is no harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = points[begun].numpy()
        # Not copied, though it is centred on the way: many rows of many columns are large.
        fitted = KMeans(size, init=begin, n_init=1, max_iter=_ITERATIONS, tol=0.0, copy_x=False).fit(points.numpy())
    return torch.from_numpy(fitted.cluster_centers_)
