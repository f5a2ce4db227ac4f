"""Graphs run on many records by ONNX Runtime."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.contents.scores import Score
from training.network.batch import Record

Outputs = dict[str, npt.NDArray[np.float32]]

_DECODED_ROWS, _DECODED_LEVELS = 1024, 128
"""Records times draws in one run when speed matters, and levels of an image that count as one of them: larger runs
leave the cache and are slower, and of large images they fill the memory."""


def session(graph: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Args:
        graph: The model's bytes.
        threads: Threads inside one run; 0 = as many as there are cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def score(
    scorer: onnxruntime.InferenceSession, record: Record, noise: npt.NDArray[np.float32], rows_a_run: int | None = None
) -> Outputs:
    """Every score of many records, in pieces.

    Args:
        scorer: A session of `scorer.onnx`.
        record: The record tensors, B records.
        noise: eps, (L, K) float32.
        rows_a_run: Records in one run; by default what keeps a run in the cache.

    Returns:
        The graph's outputs, B rows each.
    """
    step = rows_a_run or max(1, _DECODED_ROWS // (len(noise) * rows_of_a_table(record)))
    names = [output.name for output in scorer.get_outputs()]
    parts = [scorer.run(names, {**piece, "noise": noise}) for piece in pieces(record, step)]
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def rows_of_a_table(record: Record) -> int:
    """How many rows of a table each record is as large as: 1, or of images more."""
    return max(1, math.prod(record["image"].shape[1:]) // _DECODED_LEVELS) if "image" in record else 1


def anomaly_scores(
    scorer: onnxruntime.InferenceSession,
    record: Record,
    noise: npt.NDArray[np.float32],
    wanted: Sequence[Score],
) -> dict[tuple[str, int], npt.NDArray[np.float32]]:
    """Every anomaly score (higher = stranger) with every number of draws.

    Args:
        scorer: A session of `scorer.onnx`.
        record: The record tensors, B records.
        noise: eps, (256, K) float32.
        wanted: The scores.

    Returns:
        (B,) float32 by score's name and number of draws.
    """
    scores: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    for samples in SAMPLE_COUNTS:
        outputs = score(scorer, record, noise[:samples])
        scores |= {(each.name, samples): np.float32(each.sign) * outputs[each.output] for each in wanted}
    return scores


def pieces(record: Record, step: int) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """The records in order, `step` at a time."""
    rows = len(next(iter(record.values())))
    for start in range(0, rows, step):
        yield {kind: values[start : start + step] for kind, values in record.items()}


def as_torch(record: Record) -> dict[str, Tensor]:
    """Record tensors as torch has them."""
    # Copied, because torch warns of arrays that may not be written, as those of a decoded request.
    return {kind: torch.tensor(values) for kind, values in record.items()}


class Inputs(NamedTuple):
    """What a graph and the module that it was made of are given.

    Args:
        records: Tensors with B rows each: those of records, or `latent` (B, K) float32.
        noise: eps, (L, K) float32; None for what takes none.
    """

    records: Record
    noise: npt.NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """B."""
        return len(next(iter(self.records.values())))

    def take(self, rows: slice | npt.NDArray[np.int64]) -> "Inputs":
        """The same of some rows."""
        return self._replace(records={name: values[rows] for name, values in self.records.items()})

    def pieces(self, step: int) -> Iterator["Inputs"]:
        """The rows in order, `step` at a time."""
        return (self._replace(records=piece) for piece in pieces(self.records, step))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As a session takes them."""
        noise = {} if self.noise is None else {"noise": self.noise}
        return {**self.records, **noise}

    def tensors(self) -> tuple[Any, ...]:
        """As a module takes them."""
        records = as_torch(self.records)
        noise = () if self.noise is None else (torch.from_numpy(self.noise),)
        return records.get("latent", records), *noise


def run(session: onnxruntime.InferenceSession, inputs: Inputs) -> Outputs:
    """Every output of a graph, in one run.

    Args:
        session: Of the graph.
        inputs: B rows.
    """
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs.arrays()), strict=True))
