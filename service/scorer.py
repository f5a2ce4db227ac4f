"""ONNX Runtime on one bundle's scoring graph: tensors in, scores out, split so that each run stays in the cache."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from service import cpus
from service.batcher import Rows

DECODED_ROWS = 1024
"""Records times draws in one run on a CPU: larger runs leave the cache and are slower."""

Device = Literal["auto", "cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class DeviceUnavailable(Exception):
    """A device was asked for that this machine or this onnxruntime does not have."""


def require(device: Device) -> None:
    """Check that a device can be had at all, before anything is loaded.

    Raises:
        DeviceUnavailable: `cuda` was asked for, and this onnxruntime has no such provider.
    """
    if device == "cuda" and _PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        raise DeviceUnavailable(_no_cuda())


def _no_cuda() -> str:
    offered = ", ".join(onnxruntime.get_available_providers())
    return (
        f"device cuda was asked for, and ONNX Runtime cannot use it here (it offers {offered}); install "
        "onnxruntime-gpu on a machine with a GPU, or ask for cpu"
    )


class Scorer:
    """The backend of one model version.

    Args:
        graph: The bytes of `scorer.onnx`.
        noise: The noise table, (256, K) float32.
        device: `cuda` that cannot be had is an error; `auto` takes it where it can.

    Raises:
        DeviceUnavailable: `cuda` was asked for and cannot be had.
    """

    def __init__(self, graph: bytes, noise: npt.NDArray[np.float32], device: Device = "auto") -> None:
        self._noise = noise
        self._session = _session(graph, device)
        self.provider: str = self._session.get_providers()[0]
        self.device = "cuda" if self.provider == _PROVIDERS["cuda"] else "cpu"
        shapes = {output.name: output.shape[1:] for output in self._session.get_outputs()}
        self._outputs = list(shapes)
        # Operators disagree on tensors without rows.
        self._nothing = {name: np.empty((0, *shape), np.float32) for name, shape in shapes.items()}
        threads = cpus.available()
        self._pool = ThreadPoolExecutor(threads, "scorer") if self.device == "cpu" and threads > 1 else None

    def run(self, rows: Rows, samples: int) -> Rows:
        """Score records; blocks.

        Args:
            rows: The bundle's record tensors, B records.
            samples: Number of draws L, of the manifest's `sample_counts`.

        Returns:
            The graph's outputs by name, B rows each, float32.
        """
        total = len(next(iter(rows.values())))
        if not total:
            return self._nothing
        step = total if self.device == "cuda" else max(1, DECODED_ROWS // samples)
        if total <= step:
            return self._run_piece(rows, samples)
        pieces = [{name: part[start : start + step] for name, part in rows.items()} for start in range(0, total, step)]
        if self._pool is None:
            answers = [self._run_piece(piece, samples) for piece in pieces]
        else:
            answers = list(self._pool.map(self._run_piece, pieces, [samples] * len(pieces)))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in self._outputs}

    def _run_piece(self, rows: Rows, samples: int) -> dict[str, npt.NDArray[Any]]:
        answer = self._session.run(self._outputs, {**rows, "noise": self._noise[:samples]})
        return dict(zip(self._outputs, answer, strict=True))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _session(graph: bytes, device: Device) -> onnxruntime.InferenceSession:
    cuda = _PROVIDERS["cuda"]
    wanted = device
    if device == "auto":
        wanted = "cuda" if cuda in onnxruntime.get_available_providers() else "cpu"
    options = onnxruntime.SessionOptions()
    # Pieces run on threads of ours, which is faster than threads inside a run of this size.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers: list[Any] = [_PROVIDERS["cpu"]]
    if wanted == "cuda":
        # TF32 would cost 1.6e-3 nats.
        providers.insert(0, (cuda, {"use_tf32": "0"}))
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    if device == "cuda" and session.get_providers()[0] != cuda:
        raise DeviceUnavailable(_no_cuda())
    return session
