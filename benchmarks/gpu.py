"""What scoring costs on a GPU: records a second, latency and parity, by batch and number of draws.

    python benchmarks/gpu.py [--batches 1 1024 16384 131072] [--samples 1 16 256] [--tf32] [--no-compile]

Three ways with the same network (30 numeric fields, 256-128, K = 16, random weights):

    served      the service's scorer: NumPy arrays in and out, the noise on the GPU
    graph       the same session with records and scores on the GPU: what `served` could reach without copies
    compiled    torch.compile of the same module, tensors on the GPU: what the graph could reach with fused kernels

Parity is the largest distance of any score to ONNX Runtime's on the CPU, in nats a field. `--tf32` measures what the
setting of that name would give. Needs onnxruntime-gpu, and torch with CUDA for the last way; where there is no GPU, it
says so and ends well. `--device cpu` only tries the script.
"""

import argparse
import importlib.metadata
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# As a script, this file's neighbours would stand in for the packages of their names.
sys.path[0] = str(Path(__file__).parents[1])

import training  # noqa: F401, I001 - before torch, whose threads it sets

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from service.engine.device import DeviceUnavailable
from service.engine.graph import Graph
from training.config import NetworkConfig
from training.export.graphs import export
from training.network.noise import noise_table
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork
from training import modality

FIELDS = 30
SCORES = [name for name in LIKELIHOOD_OUTPUTS if name != "latent_mean"]
COMPARED = 2048
"""Records of a batch that are also scored on the CPU."""
LARGEST = 2**22
"""Records times draws that one run may decode: a hidden layer of 256 takes 4 GiB then."""
REPEATS = 5

Scores = Mapping[str, npt.NDArray[np.float32]]
Way = Callable[[], Any]


def make() -> tuple[ScoringNetwork, bytes]:
    """The network and its graph."""
    schema = TableSchema(
        fields=tuple(NumericField(name=f"x{i}", mean=0.0, scale=1.0, missing_rate=1e-6) for i in range(FIELDS))
    )
    torch.manual_seed(0)
    scorer = ScoringNetwork(modality.of(schema).vae(NetworkConfig(hidden=(256, 128), latent_size=16)).eval(), None)
    return scorer, export(scorer, schema).scorer


def median_seconds(run: Way, seconds: float) -> float:
    """Of one call, once warm: the median over REPEATS stretches that take as long together."""
    run(), run()
    started = time.perf_counter()
    run()
    calls = max(1, round(seconds / REPEATS / (time.perf_counter() - started)))
    stretches = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(calls):
            run()
        stretches.append((time.perf_counter() - started) / calls)
    return statistics.median(stretches)


def copy_nodes(graph: bytes, device: str) -> tuple[int, int]:
    """Nodes of the graph as ONNX Runtime runs it, and those of them that copy between GPU and CPU."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(graph, options, providers=providers(device, False))
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return len(nodes), sum(node.op_type.startswith("Memcpy") for node in nodes)


def providers(device: str, tf32: bool) -> list[Any]:
    """What a session of the graph is made with."""
    cuda = [("CUDAExecutionProvider", {"use_tf32": str(int(tf32))})] if device == "cuda" else []
    return [*cuda, "CPUExecutionProvider"]


def bound(
    session: Any, device: str, value: npt.NDArray[np.float64], noise: npt.NDArray[np.float32]
) -> tuple[Way, Callable[[], Scores]]:
    """A run whose records and scores stay on the device, and what reads the scores of the last one."""
    binding = session.io_binding()
    for name, array in (("numeric", value), ("noise", noise)):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0))
    for name in LIKELIHOOD_OUTPUTS:
        binding.bind_output(name, device, 0)
    return (
        lambda: session.run_with_iobinding(binding),
        lambda: dict(zip(LIKELIHOOD_OUTPUTS, binding.copy_outputs_to_cpu(), strict=True)),
    )


@torch.no_grad()
def compiled(
    scorer: ScoringNetwork, device: str, value: npt.NDArray[np.float64], noise: npt.NDArray[np.float32]
) -> tuple[Way, Callable[[], Scores]]:
    """The same of torch.compile."""
    module = torch.compile(scorer, dynamic=False)
    record, eps = {"numeric": torch.from_numpy(value).to(device)}, torch.from_numpy(noise).to(device)

    @torch.no_grad()
    def run() -> Any:
        outputs = module(record, eps)
        if device == "cuda":
            torch.cuda.synchronize()
        return outputs

    return run, lambda: {name: out.cpu().numpy() for name, out in zip(LIKELIHOOD_OUTPUTS, run(), strict=True)}


def distance(actual: Scores, expected: Scores) -> float:
    """Nats a field that the scores of the first records are apart at most."""
    return max(float(np.abs(actual[name][:COMPARED] - expected[name]).max()) for name in SCORES) / FIELDS


def measure(arguments: argparse.Namespace) -> None:
    """Print the table."""
    scorer, graph = make()
    device, table = arguments.device, noise_table(16, 0)
    served = Graph(graph, table, device, tf32=arguments.tf32)
    plain = onnxruntime.InferenceSession(graph, providers=providers(device, arguments.tf32))
    reference = Graph(graph, table, "cpu")
    nodes, copies = copy_nodes(graph, device)
    compiles = not arguments.no_compile and (device == "cpu" or torch.cuda.is_available())
    torch.set_float32_matmul_precision("high" if arguments.tf32 else "highest")
    moved = scorer.to(device) if compiles else scorer
    print(f"{nodes} nodes, {copies} of them copies between GPU and CPU; TF32 {'on' if arguments.tf32 else 'off'}\n")
    print(f"{'way':9} {'records':>8} {'draws':>6} {'records/s':>12} {'ms a run':>10} {'nats a field':>13}")
    random = np.random.default_rng(0)
    for samples in arguments.samples:
        for batch in arguments.batches:
            if batch * samples > LARGEST:
                print(f"{'-':9} {batch:8} {samples:6}  more than {LARGEST} rows to decode")
                continue
            value, noise = random.normal(size=(batch, FIELDS)), np.ascontiguousarray(table[:samples])
            expected = reference.run({"numeric": value[:COMPARED]}, samples)

            def scored(value: Any = value, samples: int = samples) -> Any:
                return served.run({"numeric": value}, samples)

            ways = {"served": (scored, scored), "graph": bound(plain, device, value, noise)}
            if compiles:
                ways["compiled"] = compiled(moved, device, value, noise)
            for name, (run, read) in ways.items():
                seconds = median_seconds(run, arguments.seconds)
                print(
                    f"{name:9} {batch:8} {samples:6} {batch / seconds:12,.0f} {1e3 * seconds:10.3f} "
                    f"{distance(read(), expected):13.1e}",
                    flush=True,
                )
            torch.compiler.reset()
    if not compiles:
        print("\nnothing was compiled" + ("" if arguments.no_compile else ": torch has no CUDA here"))


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 1024, 16384, 131072])
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU unknown to torch"
    else:
        gpu = "no GPU asked for"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "onnxruntime", "onnxruntime-gpu")
        if any(found.name == name for found in importlib.metadata.distributions())
    )
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {gpu}; {versions}")
    try:
        measure(arguments)
    except DeviceUnavailable as reason:
        print(f"no GPU, nothing measured: {reason}")


if __name__ == "__main__":
    main()
