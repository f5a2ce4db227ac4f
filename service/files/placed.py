"""Runs of a graph in which a row has the place that its number gives it."""

import numpy as np
import numpy.typing as npt

from bundle.record.fields import Tensors
from service.engine.graph import Graph


def run(graph: Graph, tensors: Tensors, numbers: npt.NDArray[np.int64], samples: int, most: int) -> Tensors:
    """Run a graph on rows of a file, so that the outputs of a row depend on it and on its number alone.

    ONNX Runtime computes several rows at a time, and rounds by where a row stands among them. So all runs have one
    size, and the place of a row in its run is its number modulo that size. Then a file may be cut anywhere and any of
    its rows be left out: the others have the same outputs, to the last bit. Places that no row has hold another row.

    Args:
        graph: The graph.
        tensors: Its inputs, B rows.
        numbers: (B,) each row's number in its file, from 1.
        samples: Draws.
        most: Rows in a run at most.

    Returns:
        The graph's outputs by name, B rows each.
    """
    rows = len(numbers)
    if not rows:
        return graph.run(tensors, samples)
    size = min(most, graph.rows_a_run(samples))
    place = (numbers - 1) % size
    order = np.argsort(place, kind="stable")
    # Rows with one place have it in different runs.
    in_run = np.empty(rows, np.int64)
    in_run[order] = np.arange(rows) - np.searchsorted(place[order], place[order])
    at = in_run * size + place
    source = np.zeros((int(in_run.max()) + 1) * size, np.int64)
    source[at] = np.arange(rows)
    outputs = graph.run({name: values[source] for name, values in tensors.items()}, samples, rows_a_run=size)
    return {name: values[at] for name, values in outputs.items()}
