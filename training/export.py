"""From the trained network to ONNX graphs, and the proof that they score alike."""

import gc
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from bundle.contents.golden import tolerance
from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.contents.scores import Score
from bundle.record.fields import MISSING, RecordSchema
from training.errors import ParityFailed
from training.explainer import Explainer
from training.image_explainer import ImageExplainer
from training.image_statistics import code_length
from training.images import Images
from training.inference import records_a_pass
from training.scores import Decoder, Encoder, Scorer
from training.vae import VAE

Record = Mapping[str, npt.NDArray[np.generic]]
Outputs = dict[str, npt.NDArray[np.float32]]

PARITY_BATCHES = (1, 2, 1000)
PARITY_SAMPLES = (1, 4, 16, 256)
_LARGEST_RUN = 2**26
"""Numbers that the widest layer of one run may hold; larger batches are cut."""
_EXTREME_FIELDS = 64
"""Fields that are pushed far out, one at a time; a table of a thousand columns gains nothing from more."""
_PARITY_IMAGES = 100
_DECODED_ROWS, _DECODED_LEVELS = 1024, 128
"""Records times draws in one run when speed matters, and levels of an image that count as one of them: larger runs
leave the cache and are slower, and of large images they fill the memory."""


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


@torch.no_grad()
def largest_term(vae: VAE, record: Record, noise: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The largest absolute summand of each record's scores: a field with one draw, the KL, or an image's code length.

    Returns:
        (B,) nats, of the code length bits, float64.
    """
    largest = []
    for piece in pieces(record, records_a_pass(vae, len(noise), _LARGEST_RUN)):
        batch = vae.standardise(as_torch(piece))
        posterior = vae.posterior(batch)
        fields = vae.likelihood.log_prob(batch, vae.decode(vae.draw(posterior, torch.from_numpy(noise))))
        terms = [fields.abs().amax(dim=(1, 2)), vae.kl(posterior).abs()]
        if isinstance(batch, Images):
            terms.append(code_length(batch.levels))
        largest.append(torch.stack(terms).amax(dim=0).double().numpy())
    return np.concatenate(largest)


def verify_parity(
    scorer: Scorer, session: onnxruntime.InferenceSession, record: Record, noise: npt.NDArray[np.float32]
) -> float:
    """Compare ONNX Runtime with torch, on held-out records and on extreme ones made from them.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        session: Of the exported `scorer.onnx`.
        record: Held-out records.
        noise: eps, (256, K) float32.

    Returns:
        The largest distance found, as a share of the tolerance.

    Raises:
        ParityFailed: A score is off by more than 1e-4 nats a field plus 1e-5 of the largest term, or not finite.
    """
    vae = scorer.vae
    every = with_extremes(vae, record)
    fields = len(vae.likelihood.names)
    worst = 0.0
    for samples in PARITY_SAMPLES:
        most = records_a_pass(vae, samples, _LARGEST_RUN)
        # Each batch in one run, because that is where a frozen dimension would show.
        for used in batches(every, most):
            rows = len(next(iter(used.values())))
            actual = score(session, used, noise[:samples], rows_a_run=rows)
            expected = run_with_torch(scorer, used, noise[:samples], rows)
            allowed = tolerance(fields, largest_term(vae, used, noise[:samples]))
            worst = max(worst, share_off(actual, expected, allowed, f"{samples} draws in a batch of {rows}"))
    return worst


def batches(record: Record, most: int) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Batches to compare, from one record to many.

    Args:
        record: Held-out records and after them extreme ones, which are allowed to be off by more: of each there is a
            batch of one, and every other holds both.
        most: Records in a batch.
    """
    rows = len(next(iter(record.values())))
    yield {kind: values[-1:] for kind, values in record.items()}
    for wanted in sorted({min(batch, most, rows) for batch in PARITY_BATCHES}):
        last = wanted // 2
        used = np.r_[: wanted - last, rows - last : rows]
        yield {kind: values[used] for kind, values in record.items()}


def share_off(actual: Outputs, expected: Outputs, allowed: npt.NDArray[np.float64], where: str) -> float:
    """How far two computations lie apart, as a share of what is allowed.

    Args:
        actual: What ONNX Runtime gave, B rows each.
        expected: What torch gave.
        allowed: (B,) the tolerance of each record.
        where: What was computed, for the message.

    Raises:
        ParityFailed: They are further apart than that, or not finite.
    """
    worst = 0.0
    for name, values in expected.items():
        off = np.abs(actual[name].astype(np.float64) - values)
        off = off.reshape(len(off), -1).max(axis=1)
        share = float((off / allowed).max()) if np.isfinite(off).all() else math.inf
        if share > 1.0:
            row = int(np.nanargmax(off / allowed)) if np.isfinite(share) else int(np.argmin(np.isfinite(off)))
            raise ParityFailed(
                f"{name} with {where}: ONNX Runtime and torch are "
                f"{off[row]:.3g} apart, allowed are {allowed[row]:.3g}; please report this as a bug"
            )
        worst = max(worst, share)
    return worst


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


def extreme_images(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(4, H, W, C) uint8: black, white, a chessboard of both, and noise.

    Args:
        shape: H, W, C.
    """
    height, width, _ = shape
    squares = (np.add.outer(np.arange(height), np.arange(width)) % 2)[..., np.newaxis]
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return np.stack([np.broadcast_to(each, shape) for each in (0, 255, 255 * squares, noise)]).astype(np.uint8)


def pieces(record: Record, step: int) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """The records in order, `step` at a time."""
    rows = len(next(iter(record.values())))
    for start in range(0, rows, step):
        yield {kind: values[start : start + step] for kind, values in record.items()}


def as_torch(record: Record) -> dict[str, Tensor]:
    """Record tensors as torch has them."""
    # Copied, because torch warns of arrays that may not be written, as those of a decoded request.
    return {kind: torch.tensor(values) for kind, values in record.items()}


def run_with_torch(
    module: Scorer | Explainer | ImageExplainer, record: Record, noise: npt.NDArray[np.float32], rows_a_run: int
) -> Outputs:
    """What `score` gives, by the network that the graph was made of."""
    with torch.no_grad():
        outputs: list[tuple[Tensor, ...]] = [
            module(as_torch(piece), torch.from_numpy(noise)) for piece in pieces(record, rows_a_run)
        ]
    joined = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    return dict(zip(module.names, joined, strict=True))


def with_extremes(vae: VAE, record: Record) -> dict[str, npt.NDArray[np.generic]]:
    """Up to 1000 records: held-out ones, then the first of them with one field far out, and with that field alone.

    Of images up to 100, each of which has hundreds of pixels that could differ: held-out ones, then black, white, a
    chessboard of both, noise, and the first one inverted.
    """
    if "image" in record:
        images = record["image"]
        strangest = extreme_images(images.shape[1:])
        inverted = 255 - images[:1].astype(np.uint8)
        return {"image": np.concatenate([images[: _PARITY_IMAGES - len(strangest) - 1], strangest, inverted])}
    far = {"numeric": (vae.preprocess.mean + 1e6 * vae.preprocess.scale).numpy()}
    places = [(kind, column) for kind, values in record.items() for column in range(values.shape[1])]
    extremes = []
    for kind, column in places[:_EXTREME_FIELDS]:
        strange = far[kind][column] if kind in far else 0
        pushed = {name: values[:1].copy() for name, values in record.items()}
        alone = {name: np.full_like(values[:1], np.nan if name in far else MISSING) for name, values in record.items()}
        pushed[kind][0, column] = alone[kind][0, column] = strange
        extremes += [pushed, alone]
    return {
        kind: np.concatenate([values[: 1000 - len(extremes)], *(each[kind] for each in extremes)])
        for kind, values in record.items()
    }
