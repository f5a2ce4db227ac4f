"""From the trained network to ONNX graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bundle.record.schema import RecordSchema
from training.export import architecture
from training.export.template import filled, template
from training.network.scores import Decoder, Encoder, ScoringNetwork


@dataclass(frozen=True)
class Graphs:
    """The three exported graphs, as bytes."""

    scorer: bytes
    encoder: bytes
    decoder: bytes


def export(scorer: ScoringNetwork, schema: RecordSchema) -> Graphs:
    """Export the scorer, the encoder and the decoder; batch and number of draws stay free.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        schema: The bundle's fields.
    """
    vae = scorer.vae
    given, free = arguments(schema, vae.latent_size)
    latent = torch.zeros(3, vae.latent_size)
    encoder, decoder = Encoder(vae), Decoder(vae)
    return Graphs(
        scorer=to_onnx(scorer, given, scorer.names, free),
        encoder=to_onnx(encoder, {"record": given["record"]}, encoder.names, {"record": free["record"]}),
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
    return filled(template(module, given, outputs, dynamic), architecture.weights(module))
