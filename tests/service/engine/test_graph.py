"""Runs of the graph: the same scores however a batch is cut, and a device that was asked for or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from bundle.record.fields import Tensors
from service.engine import device
from service.engine.device import Device, DeviceUnavailable
from service.engine.graph import DECODED_ROWS, LEAST_ROWS, Graph
from tests.conftest import NAME

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
GONE = {"numeric": np.nan, "boolean": -1, "categorical": -1}


@pytest.fixture(scope="module")
def graph(models: Path) -> bytes:
    return (models / NAME / "1" / "scorer.onnx").read_bytes()


@pytest.fixture(scope="module")
def noise(models: Path) -> npt.NDArray[np.float32]:
    table: npt.NDArray[np.float32] = np.load(models / NAME / "1" / "noise.npy")
    return table


@pytest.fixture(scope="module")
def session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=[CPU])


@pytest.fixture(scope="module")
def record(session: onnxruntime.InferenceSession) -> dict[str, npt.NDArray[Any]]:
    """A thousand records, a tenth of the values missing."""
    rng = np.random.default_rng(0)
    rows: dict[str, npt.NDArray[Any]] = {}
    for given in session.get_inputs():
        shape = (1000, given.shape[1])
        match given.name:
            case "numeric":
                rows["numeric"] = 20 * rng.normal(size=shape)
            case "boolean":
                rows["boolean"] = rng.integers(0, 2, shape).astype(np.int8)
            case "categorical":
                rows["categorical"] = rng.integers(0, 2, shape)
    for kind, values in rows.items():
        values[rng.uniform(size=values.shape) < 0.1] = GONE[kind]
    return rows


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def scorer(request: pytest.FixtureRequest, graph: bytes, noise: npt.NDArray[np.float32]) -> Any:
    made = Graph(graph, noise, "cpu", threads=request.param)
    yield made
    made.close()


def head(rows: Tensors, count: int) -> dict[str, npt.NDArray[Any]]:
    return {name: values[:count] for name, values in rows.items()}


def assert_alike(actual: Tensors, expected: Tensors) -> None:
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert actual[name].shape == values.shape, name
        assert actual[name].dtype == np.float32, name
        np.testing.assert_allclose(actual[name], values, rtol=1e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("samples", [1, 16, 256])
@pytest.mark.parametrize("count", [1, 4, 5, 64, 65, 129, 1000])
def test_a_batch_scores_as_in_one_run_however_it_is_cut(
    scorer: Graph,
    session: onnxruntime.InferenceSession,
    record: Tensors,
    noise: npt.NDArray[np.float32],
    count: int,
    samples: int,
) -> None:
    rows = head(record, count)
    names = [output.name for output in session.get_outputs()]
    whole = session.run(names, {**rows, "noise": noise[:samples]})
    assert_alike(scorer.run(rows, samples), dict(zip(names, whole, strict=True)))


def test_no_records_have_no_scores_of_the_same_shapes(scorer: Graph, record: Tensors) -> None:
    nothing, one = scorer.run(head(record, 0), 16), scorer.run(head(record, 1), 16)
    assert {name: values.shape[1:] for name, values in nothing.items()} == {
        name: values.shape[1:] for name, values in one.items()
    }
    assert all(len(values) == 0 for values in nothing.values())


def test_arrays_that_may_not_be_written_or_lie_apart_are_taken_and_left_as_they_are(
    scorer: Graph, record: Tensors
) -> None:
    kept = {name: values.copy() for name, values in record.items()}
    apart = {name: np.repeat(values, 2, axis=0)[::2] for name, values in record.items()}
    for values in apart.values():
        values.flags.writeable = False
    assert_alike(scorer.run(apart, 16), scorer.run(record, 16))
    for name, values in record.items():
        np.testing.assert_array_equal(values, kept[name])


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("samples", [1, 16, 256])
@pytest.mark.parametrize("count", [64, 65, 100, 128, 130, 1000])
def test_runs_are_of_one_size_within_the_bounds_and_enough_for_every_thread(
    graph: bytes,
    noise: npt.NDArray[np.float32],
    record: Tensors,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    samples: int,
    count: int,
) -> None:
    sizes: list[int] = []
    scorer = Graph(graph, noise, "cpu", threads=threads)
    shapes = [values.shape[1:] for values in scorer.run(head(record, 0), samples).values()]

    def run(session: object, names: list[str], inputs: Tensors, options: object) -> list[npt.NDArray[Any]]:
        sizes.append(len(inputs["numeric"]))
        return [np.empty((sizes[-1], *shape)) for shape in shapes]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    scorer.run(head(record, count), samples)
    scorer.close()
    assert sum(sizes) == count
    assert all(size * samples <= DECODED_ROWS + samples for size in sizes)
    if count * samples <= DECODED_ROWS:
        assert sizes == [count]
    else:
        assert len(sizes) >= min(threads, count * samples // LEAST_ROWS, count) * 0.9
        assert sorted(sizes)[1] == max(sizes)


class Offered:
    """Stands in for onnxruntime-gpu: records how sessions are asked for, and has the GPU or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpu: Callable[[], bool]) -> None:
        self.options: dict[str, str] = {}
        made = onnxruntime.InferenceSession

        def create(graph: bytes, options: Any, providers: list[Any], **more: Any) -> Any:
            session = made(graph, options, providers=[CPU])
            if providers == [CPU]:
                return session
            (name, self.options), last = providers
            assert (name, last) == (CUDA, CPU)
            assert more == {"enable_fallback": 0}
            if gpu():
                monkeypatch.setattr(session, "get_providers", lambda: [CUDA, CPU])
            return session

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", create)


def no_gpu() -> bool:
    raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_is_taken_with_full_precision_and_no_more_memory_than_needed(
    graph: bytes, noise: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    offered = Offered(monkeypatch, lambda: True)
    scorer = Graph(graph, noise, device)
    assert (scorer.device, scorer.provider) == ("cuda", CUDA)
    assert offered.options == {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    Graph(graph, noise, device, tf32=True, gpu_memory_mb=2048)
    assert (offered.options["use_tf32"], offered.options["gpu_mem_limit"]) == ("1", "2147483648")


def bind_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is bound to a GPU is bound to the CPU, where the same calls do the same; lists the devices asked for."""
    asked: list[str] = []
    output, value = onnxruntime.IOBinding.bind_output, onnxruntime.OrtValue.ortvalue_from_numpy

    def bind_output(binding: Any, name: str, device: str, number: int) -> None:
        asked.append(device)
        output(binding, name, "cpu", number)

    def ortvalue_from_numpy(array: npt.NDArray[Any], device: str, number: int) -> Any:
        asked.append(device)
        return value(array, "cpu", number)

    monkeypatch.setattr(onnxruntime.IOBinding, "bind_output", bind_output)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", ortvalue_from_numpy)
    return asked


def test_a_gpu_s_runs_score_the_same(
    graph: bytes, noise: npt.NDArray[np.float32], record: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Graph(graph, noise, "cpu", threads=1)
    Offered(monkeypatch, lambda: True)
    asked = bind_to_the_cpu(monkeypatch)
    bound = Graph(graph, noise, "cuda")
    for count, samples in ((1000, 16), (1, 16), (7, 1), (1000, 4)):
        apart = {name: np.repeat(values, 2, axis=0)[::2] for name, values in head(record, count).items()}
        assert_alike(bound.run(apart, samples), plain.run(head(record, count), samples))
    assert set(asked) == {"cuda"}


def test_a_gpu_takes_a_batch_whole(
    graph: bytes, noise: npt.NDArray[np.float32], record: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", lambda session, binding, options: None)
    Offered(monkeypatch, lambda: True)
    bind_to_the_cpu(monkeypatch)
    scorer = Graph(graph, noise, "cuda")
    shapes = [values.shape[1:] for values in scorer.run(head(record, 0), 256).values()]
    sizes: list[int] = []
    bind = onnxruntime.IOBinding.bind_cpu_input

    def bind_cpu_input(binding: Any, name: str, array: npt.NDArray[Any]) -> None:
        if name == "numeric":
            sizes.append(len(array))
        bind(binding, name, array)

    monkeypatch.setattr(onnxruntime.IOBinding, "bind_cpu_input", bind_cpu_input)
    monkeypatch.setattr(
        onnxruntime.IOBinding,
        "copy_outputs_to_cpu",
        lambda binding: [np.empty((sizes[-1], *shape), np.float32) for shape in shapes],
    )
    scorer.run(record, 256)
    assert sizes == [1000]
    scorer.run({name: np.repeat(values, 9, axis=0) for name, values in record.items()}, 256)
    assert sizes[1:] == [3000, 3000, 3000]


@pytest.mark.parametrize("gpu", [lambda: False, no_gpu], ids=["left out", "failed"])
def test_a_gpu_that_onnxruntime_cannot_use_is_an_error_or_gives_way_to_the_cpu(
    graph: bytes, noise: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, gpu: Callable[[], bool]
) -> None:
    Offered(monkeypatch, gpu)
    monkeypatch.setattr(device, "_offered", lambda: [CUDA, CPU])
    device.require("cuda")
    with pytest.raises(DeviceUnavailable, match="onnxruntime-gpu"):
        Graph(graph, noise, "cuda")
    assert Graph(graph, noise, "auto").device == "cpu"


def test_without_the_provider_cuda_is_refused_before_and_while_loading(
    graph: bytes, noise: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(device, "_offered", lambda: [CPU])
    with pytest.raises(DeviceUnavailable):
        device.require("cuda")
    with pytest.raises(DeviceUnavailable):
        Graph(graph, noise, "cuda")
    device.require("auto")
    device.require("cpu")
    assert Graph(graph, noise, "auto").provider == CPU


@pytest.mark.parametrize("asked", ["cpu", "auto", "cuda"])
def test_a_graph_at_fault_is_not_blamed_on_the_device(
    noise: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, asked: Device
) -> None:
    Offered(monkeypatch, no_gpu)
    with pytest.raises(Exception, match="protobuf") as failure:
        Graph(b"no graph", noise, asked)
    assert not isinstance(failure.value, DeviceUnavailable)
