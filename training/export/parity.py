"""The proof that two computations of the same scores agree: ONNX Runtime and torch."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from bundle.contents.golden import tolerance
from training.errors import ParityFailed
from training.export.runs import Outputs, as_torch, pieces, run_with_torch, score
from training.network.batch import Record
from training.network.inference import records_a_pass
from training.network.scores import ScoringNetwork
from training.network.vae import VAE

PARITY_BATCHES = (1, 2, 1000)
"""Records that are compared in one run."""
PARITY_SAMPLES = (1, 4, 16, 256)
"""Draws that they are compared with."""
_LARGEST_RUN = 2**26
"""Numbers that the widest layer of one run may hold; larger batches are cut."""


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
        terms = [fields.abs().amax(dim=(1, 2)), vae.kl(posterior).abs(), *batch.own_terms()]
        largest.append(torch.stack(terms).amax(dim=0).double().numpy())
    return np.concatenate(largest)


def verify_parity(
    scorer: ScoringNetwork, session: onnxruntime.InferenceSession, every: Record, noise: npt.NDArray[np.float32]
) -> float:
    """Compare ONNX Runtime with torch, on held-out records and on extreme ones made from them.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        session: Of the exported `scorer.onnx`.
        every: Held-out records, and after them extreme ones; see `training.modality.Modality.extremes`.
        noise: eps, (256, K) float32.

    Returns:
        The largest distance found, as a share of the tolerance.

    Raises:
        ParityFailed: A score is off by more than 1e-4 nats a field plus 1e-5 of the largest term, or not finite.
    """
    vae = scorer.vae
    fields = vae.likelihood.fields
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
