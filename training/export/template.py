"""Graphs without weights: one is exported for an architecture, kept, and filled for each model of it.

torch.onnx takes half a minute for a table's graphs, whatever their weights are. Who trains every night has the same
architecture every night.
"""

import gc
import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx
import platformdirs
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.export import architecture
from training.export.architecture import Undescribed

MOST_KEPT = 64
"""Templates that are kept; those that were used longest ago go first."""
_DIGEST_BYTES = 32

log = logging.getLogger("surprisal.export")


def folder() -> Path:
    """Where templates are kept: the user's cache folder."""
    return platformdirs.user_cache_path("surprisal") / "graphs"


def template(module: nn.Module, given: Mapping[str, Any], outputs: Sequence[str], dynamic: Mapping[str, Any]) -> bytes:
    """The graph of a module whose weights are inputs, so that nothing in it can depend on their values.

    Args:
        module: In plain tensor arithmetic.
        given: Arguments to trace it with.
        outputs: Names of what it gives.
        dynamic: Which dimensions of the arguments stay free.

    Returns:
        An ONNX model, from the user's cache folder where that has it.
    """
    try:
        path = folder() / f"{architecture.digest(module, given, outputs, dynamic)}.onnx"
    except Undescribed as unknown:
        log.debug("the graph is not kept, because it may depend on %s", unknown)
        return _exported(module, given, outputs, dynamic)
    kept = _read(path)
    if kept is None:
        # Of trainings that begin together one exports, and the others wait for what it keeps.
        with _alone(path.with_suffix(".lock")):
            kept = _read(path)
            if kept is None:
                kept = _exported(module, given, outputs, dynamic)
                _write(path, kept)
    return kept


def filled(template: bytes, weights: Mapping[str, Tensor]) -> bytes:
    """A model's graph: a template with the values of its weights.

    Args:
        template: Of the model's architecture.
        weights: By name; those that the graph does not use are left out.
    """
    model = onnx.load_model_from_string(template)
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    inputs = [given for given in graph.input if given.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(
        numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items() if name in used
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _Weighted(nn.Module):
    """A module whose weights are arguments."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held = (module,)  # not as a child, whose weights would be its own

    def forward(self, given: dict[str, Any], weights: dict[str, Tensor]) -> Any:
        return torch.func.functional_call(self._held[0], weights, (), given, strict=True)


def _exported(module: nn.Module, given: Mapping[str, Any], outputs: Sequence[str], dynamic: Mapping[str, Any]) -> bytes:
    weights = architecture.weights(module)
    free = {name: {axis: torch.export.Dim.DYNAMIC} for name, axis in architecture.free_axes(module).items()}
    names = [name for argument in given for name in (given[argument] if argument == "record" else [argument])]
    # The exporter says, once per optional operator, that torchvision is absent; that concerns nobody here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    # Without gradients it traces a fifth faster, and again without a look for garbage among all that it makes.
    with torch.no_grad(), _garbage_left(), warnings.catch_warnings():
        # It also warns about its own deprecated calls and about axes that share a name, as ours do on purpose.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Weighted(module.eval()).eval(),
            kwargs={"given": dict(given), "weights": weights},
            dynamo=True,
            input_names=[*names, *weights],
            output_names=list(outputs),
            dynamic_shapes={"given": dict(dynamic), "weights": {name: free.get(name) for name in weights}},
            custom_translation_table={torch.ops.aten.softplus.default: _softplus},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # Stack traces of this machine's files are of no use in a bundle, and would make it differ from place to place.
    del model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _read(path: Path) -> bytes | None:
    """What is kept, if it is whole."""
    try:
        content = path.read_bytes()
        os.utime(path)  # it was used
    except OSError:
        return None
    digest, template = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return template if hashlib.sha256(template).digest() == digest else None


def _write(path: Path, template: bytes) -> None:
    """Keep a template, and no more than `MOST_KEPT`; a folder that cannot be written costs time alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first, so that nobody reads half of it.
        with tempfile.TemporaryDirectory(dir=path.parent) as own:
            whole = Path(own, path.name)
            whole.write_bytes(hashlib.sha256(template).digest() + template)
            whole.replace(path)
    except OSError as error:
        log.info("the graph is not kept for the next training: %s", error)
        return
    with suppress(OSError):  # another training may have removed the same one
        oldest_first = sorted(path.parent.glob("*.onnx"), key=lambda each: each.stat().st_mtime)
        for each in oldest_first[:-MOST_KEPT]:
            each.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out; where no lock can be had, each exports for itself, which costs time alone."""
    with ExitStack() as held:
        try:
            import fcntl  # not on every system

            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.callback(path.unlink, missing_ok=True)  # who waits has it open, and finds what is kept
        except (ImportError, OSError) as error:
            log.debug("another process may export the same: %s", error)
        yield


@contextmanager
def _garbage_left() -> Iterator[None]:
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _softplus(logits: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(logits)), beta and threshold being the defaults; ONNX Runtime's Softplus takes five times as long."""
    # Here, because it takes most of a second to load, and a call that is wrong should hear of it at once.
    from onnxscript import opset20 as opset

    return opset.Sub(opset.Relu(logits), opset.Log(opset.Sigmoid(opset.Abs(logits))))
