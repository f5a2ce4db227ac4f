"""ONNX Runtime on one of a bundle's graphs: tensors in, tensors out, in runs of the size that suits the device."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from bundle.record.fields import Tensors
from service.engine import cpus
from service.engine.device import CUDA_PROVIDER, Device, DeviceUnavailable, no_cuda
from service.engine.run_guard import GUARD, Run, RunStopped, Watch

DECODED_ROWS = 1024
"""Records times draws in one run on a CPU. Smaller runs pay more often for the call, larger ones leave the cache: with
30 numeric fields and 16 draws one thread scores, in thousands of records a second, 52 at 256, 57 at 512, 59 at 1024,
58 at 2048, 57 at 4096 and 53 at 8192."""
LEAST_ROWS = 256
"""Runs are not made smaller than this, only for all threads to have one."""
RUNS_A_BATCH = 4
"""Runs in a batch, one after the other."""
CUDA_DECODED_ROWS = 2**20
"""The same on a GPU: as many fill it, and a hidden layer of 256 then takes 1 GiB."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": CUDA_PROVIDER}
_BOUND_TO = "cuda"

log = logging.getLogger("surprisal.scorer")


class Graph:
    """A graph of one model version, which scores records or explains them.

    Args:
        content: The bytes of `scorer.onnx` or `explainer.onnx`.
        noise: The noise table, (256, K) float32.
        device: `cuda` that cannot be had is an error; `auto` takes it where it can.
        threads: Runs side by side on a CPU; by default as many as there are processors.
        tf32: Whether a GPU may round the factors of products to 10 bits: faster, and off by some 1e-3 nats.
        gpu_memory_mb: Most MiB that the graph's tensors may take on a GPU; by default there is no limit.
        decodes: Tensors that the graph decodes for each record and draw; the explainer many.
        watch: How long a run may take; None where whoever waits can end the process.

    Raises:
        DeviceUnavailable: `cuda` was asked for and cannot be had.
    """

    def __init__(
        self,
        content: bytes,
        noise: npt.NDArray[np.float32],
        device: Device,
        *,
        threads: int | None = None,
        tf32: bool = False,
        gpu_memory_mb: int | None = None,
        decodes: int = 1,
        watch: Watch | None = None,
    ) -> None:
        self._decodes = decodes
        self.watch = watch
        session = _session(content, device, tf32, gpu_memory_mb)
        self.provider: str = session.get_providers()[0]
        self.device = "cuda" if self.provider == _PROVIDERS["cuda"] else "cpu"
        outputs = {output.name: output.shape[1:] for output in session.get_outputs()}
        # Operators disagree on tensors without rows.
        self._nothing = {name: np.empty((0, *shape), np.float32) for name, shape in outputs.items()}
        self._runner: _Runner
        if self.device == "cuda":
            self._decoded_rows, self._threads = CUDA_DECODED_ROWS, 1
            self._runner = _Bound(session, list(outputs), noise)
        else:
            self._decoded_rows, self._threads = DECODED_ROWS, threads or cpus.available()
            self._runner = _Plain(session, list(outputs), noise)
        self._pool = ThreadPoolExecutor(self._threads, "scorer") if self._threads > 1 else None
        self.batch_draws = RUNS_A_BATCH * self._threads * self._decoded_rows // decodes
        """Records times draws that are scored together at most: nobody waits behind more of somebody else's."""

    def run(self, rows: Tensors, samples: int, *, rows_a_run: int | None = None) -> Tensors:
        """Run the graph on records; blocks.

        Args:
            rows: The bundle's record tensors, B records.
            samples: Number of draws L, of the manifest's `sample_counts`.
            rows_a_run: Records in each run of the graph, but for the last; by default what keeps all threads busy.

        Returns:
            The graph's outputs by name, B rows each, float32.

        Raises:
            RunStopped: It took longer than `watch` allows.
        """
        total = len(next(iter(rows.values())))
        if not total:
            return self._nothing
        if self.watch is None:
            return self._run(rows, total, samples, None, rows_a_run)
        run = GUARD.begin(self.watch)
        try:
            return self._run(rows, total, samples, run, rows_a_run)
        except Exception as error:
            if run.stopped is None:
                raise
            raise RunStopped(f"the graph ran for more than {run.most:g} s and was stopped") from error
        finally:
            GUARD.end(run)

    def rows_a_run(self, samples: int) -> int:
        """Records in a run that suits the device, whatever the number of threads."""
        return max(1, self._decoded_rows // (samples * self._decodes))

    def _run(self, rows: Tensors, total: int, samples: int, run: Run | None, rows_a_run: int | None) -> Tensors:
        decoded = total * samples * self._decodes
        if decoded <= self._decoded_rows or total == 1:
            return self._runner.run(rows, samples, run)
        step = rows_a_run or math.ceil(total / self._pieces(decoded))
        parts = [{name: part[start : start + step] for name, part in rows.items()} for start in range(0, total, step)]
        each = map if self._pool is None else self._pool.map
        answers = list(each(self._runner.run, parts, [samples] * len(parts), [run] * len(parts)))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in self._nothing}

    def _pieces(self, decoded: int) -> int:
        """How many runs, all of one size, this many decoded rows take: as many for one thread as for another."""
        fewest = math.ceil(decoded / self._decoded_rows)
        alike = math.ceil(fewest / self._threads) * self._threads
        return max(fewest, min(alike, decoded // LEAST_ROWS))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class _Runner(Protocol):
    """What scores one piece."""

    def run(self, rows: Tensors, samples: int, run: Run | None) -> Tensors:
        """See `Graph.run`; may be called from several threads at a time."""
        ...


class _Plain:
    """Runs whose tensors are where NumPy has them."""

    def __init__(self, session: Any, outputs: list[str], noise: npt.NDArray[np.float32]) -> None:
        self._session = session
        self._outputs = outputs
        self._table = noise
        self._noise: dict[int, npt.NDArray[np.float32]] = {}

    def run(self, rows: Tensors, samples: int, run: Run | None) -> Tensors:
        noise = self._noise.get(samples)
        if noise is None:
            noise = self._noise[samples] = self._table[:samples]
        answer = self._session.run(self._outputs, {**rows, "noise": noise}, _begun(run))
        return dict(zip(self._outputs, answer, strict=True))


class _Bound:
    """Runs on a GPU: the noise stays there; records go there and scores come back once for each run.

    Args:
        session: Of the graph.
        outputs: Names of its outputs.
        noise: The noise table.
    """

    def __init__(self, session: Any, outputs: list[str], noise: npt.NDArray[np.float32]) -> None:
        self._session = session
        self._outputs = outputs
        self._table = noise
        self._noise: dict[int, Any] = {}

    def run(self, rows: Tensors, samples: int, run: Run | None) -> Tensors:
        noise = self._noise.get(samples)
        if noise is None:
            table = np.ascontiguousarray(self._table[:samples])
            noise = self._noise[samples] = onnxruntime.OrtValue.ortvalue_from_numpy(table, _BOUND_TO, 0)
        # A binding would keep the shapes of its outputs, and the memory of the largest batch: each run has its own.
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("noise", noise)
        for name, part in rows.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(part))
        for name in self._outputs:
            binding.bind_output(name, _BOUND_TO, 0)
        self._session.run_with_iobinding(binding, _begun(run))
        return dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))


def _begun(run: Run | None) -> onnxruntime.RunOptions | None:
    """By what a piece can be told to end, which begins now."""
    if run is None:
        return None
    run.touched = monotonic()
    return run.options


def offers_cuda() -> bool:
    """Whether this ONNX Runtime can use a GPU at all."""
    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def _session(graph: bytes, device: Device, tf32: bool, gpu_memory_mb: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Pieces run on threads of ours, which is faster than threads inside a run of this size.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # By their first bytes it would take some for a format of its own, which nobody has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    cause: Exception | None = None
    if device != "cpu" and offers_cuda():
        onnxruntime.preload_dlls()  # finds the CUDA libraries that pip has installed
        cuda = {
            "use_tf32": str(int(tf32)),
            "arena_extend_strategy": "kSameAsRequested",  # the default doubles what is held, whatever is needed
        }
        if gpu_memory_mb is not None:
            cuda["gpu_mem_limit"] = str(gpu_memory_mb * 2**20)
        providers = [(_PROVIDERS["cuda"], cuda), _PROVIDERS["cpu"]]
        try:
            # Its own fall-back would print, and go on with the CPU.
            session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no base; the CPU tells whose fault it is
            cause = error
        else:
            if session.get_providers()[0] == _PROVIDERS["cuda"]:
                return session
    # A graph that is itself at fault fails here too, whatever device was asked for.
    session = onnxruntime.InferenceSession(graph, options, providers=[_PROVIDERS["cpu"]])
    if device == "cuda":
        raise DeviceUnavailable(no_cuda(onnxruntime.get_available_providers())) from cause
    if cause is not None:
        log.warning("the GPU cannot be used, so the CPU scores: %s", " ".join(str(cause).split()))
    return session
