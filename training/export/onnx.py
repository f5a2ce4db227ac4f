"""From the trained network to ONNX graphs."""

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import nn

from bundle.record.schema import RecordSchema
from training.network.scores import Decoder, Encoder, Scorer


@dataclass(frozen=True)
class Graphs:
    """The three exported graphs, as bytes."""

    scorer: bytes
    encoder: bytes
    decoder: bytes


def export(scorer: Scorer, schema: RecordSchema) -> Graphs:
    """Export the scorer, the encoder and the decoder; batch and number of draws stay free.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        schema: The bundle's fields.
    """
    vae = scorer.vae
    given, free = arguments(schema, vae.latent_size)
    latent = torch.zeros(3, vae.latent_size)
    decoder = Decoder(vae)
    of_records = ({"record": given["record"]}, ("latent_mean", "latent_log_variance"), {"record": free["record"]})
    return Graphs(
        scorer=to_onnx(scorer, given, scorer.names, free),
        encoder=to_onnx(Encoder(vae), *of_records),
        decoder=to_onnx(decoder, {"latent": latent}, decoder.names, {"latent": {0: torch.export.Dim("records")}}),
    )


def arguments(schema: RecordSchema, latent_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Records and noise to export a graph with, and which of their dimensions stay free.

    Args:
        schema: The bundle's fields.
        latent_size: K.
    """
    record = {kind: torch.ones(3, *shape, dtype=_TORCH[kind]) for kind, shape in schema.shapes.items()}
    records, draws = torch.export.Dim("records"), torch.export.Dim("draws")
    free = {"record": {kind: {0: records} for kind in record}, "noise": {0: draws}}
    return {"record": record, "noise": torch.zeros(2, latent_size)}, free


_TORCH = {"numeric": torch.float64, "boolean": torch.int8, "categorical": torch.int64, "image": torch.uint8}


def to_onnx(module: nn.Module, given: dict[str, Any], outputs: Sequence[str], dynamic: dict[str, Any]) -> bytes:
    """A module as an ONNX model's bytes.

    Args:
        module: In plain tensor arithmetic.
        given: Arguments to trace it with.
        outputs: Names of what it gives.
        dynamic: Which dimensions of the arguments stay free.
    """
    # The exporter says, once per optional operator, that torchvision is absent; that concerns nobody here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    # Without gradients it traces a fifth faster, and again without a look for garbage among all that it makes.
    with torch.no_grad(), _garbage_left(), warnings.catch_warnings():
        # It also warns about its own deprecated calls and about axes that share a name, as ours do on purpose.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            kwargs=given,
            dynamo=True,
            input_names=[*given.get("record", ()), *(name for name in given if name != "record")],
            output_names=list(outputs),
            dynamic_shapes=dynamic,
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
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


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
