"""The proof that the exported graphs compute what the network does: the network in float64 is the judge.

ONNX Runtime may be off by the larger of two: 1e-4 nats a field plus 1e-5 of the largest term, the output itself being
one, and ten times what float32 alone costs torch (`training.export.reference`). Each record and output has a bound of
its own, so that a record far out, whose terms are trillions of nats, excuses nothing in the one beside it.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from bundle.contents.golden import tolerance
from training.errors import ParityFailed
from training.export import runs
from training.export.reference import Exact, Exported, Reference, distance
from training.export.runs import Inputs, as_torch, pieces
from training.network.batch import Record
from training.network.inference import records_a_pass
from training.network.scores import Decoder, Encoder, ScoringNetwork
from training.network.vae import VAE

PARITY_BATCHES = (1, 2, 1000)
"""Records that are compared in one run."""
PARITY_SAMPLES = (1, 4, 16, 256)
"""Draws that they are compared with."""
TIMES = 10.0
"""What float32 costs torch, ONNX Runtime may be off by as many times: it sums in another order, and its exponentials
are others."""
_DOUBTFUL = 0.1
"""Of what is allowed whatever float32 costs: it takes nine times as long to measure that as well."""
_MEASURED_SAMPLES = 16
"""Draws with which it is measured what float32 costs; the mean of more of them costs no more."""
_LARGEST_RUN = 2**24
"""Numbers that the widest layer of one run may hold; larger batches are cut."""

Terms = Callable[[Inputs], npt.NDArray[np.float64]]
"""(B,) the largest absolute summand of what is given; see `largest_term`."""


class Comparison:
    """A graph beside the module that it was made of.

    Args:
        graph: The name of its file.
        session: Of the graph.
        module: In float32, on the CPU.
        numbers: What one record costs in the widest layer, in numbers, by the number of draws.
        fields: Of a record, 1e-4 nats each.
        terms: The largest summand; where there is none, each output is the only term of itself.
        outputs: Those to compare; by default all.
    """

    def __init__(
        self,
        graph: str,
        session: onnxruntime.InferenceSession,
        module: Exported,
        numbers: Callable[[int], int],
        fields: int = 1,
        terms: Terms | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        assert isinstance(module, torch.nn.Module)
        self.reference = Reference(module, numbers)
        self._graph, self._session = graph, session
        self._fields, self._terms = fields, terms
        self._outputs = module.names if outputs is None else outputs

    def verify(self, every: Inputs, most: Callable[[int], int]) -> float:
        """Compare with every number of draws, in batches from one record to many.

        Args:
            every: Held-out records, and after them extreme ones; see `training.modality.Modality.extremes`.
            most: Records in a run, by the number of draws.

        Returns:
            The largest distance found, as a share of what is allowed.

        Raises:
            ParityFailed: An output is off by more than is allowed, not finite, or of another shape.
        """
        if every.noise is None:
            return max(self.share_off(used) for used in batches(every, most(1)))
        given = (every._replace(noise=every.noise[:samples]) for samples in PARITY_SAMPLES)
        # Each batch in one run, because that is where a frozen dimension would show.
        return max(self.share_off(used) for each in given for used in batches(each, most(_draws(each))))

    def share_off(self, inputs: Inputs) -> float:
        """How far the graph is off, in one run, as a share of what is allowed.

        Raises:
            ParityFailed: By more than that; or an output is not finite, or of another shape; or the graph fails.
        """
        exact, actual = self._exact(inputs), self._run(inputs)
        for name, values in exact.items():
            if actual[name].shape != values.shape:
                shapes = f"{name} has the shape {actual[name].shape} in place of {values.shape}"
                raise ParityFailed(f"{self._where(inputs)}: {shapes}", inputs.arrays())
        off = {name: distance(actual[name], values) for name, values in exact.items()}
        allowed = self._allowed(inputs, exact, off)
        share = {name: _share(off[name], allowed[name]) for name in exact}
        worst = max(exact, key=lambda name: float(share[name].max()))
        row = int(share[worst].argmax())
        if not share[worst][row] <= 1.0:
            raise ParityFailed(
                f"{self._where(inputs)}: {worst} is {off[worst][row]:.3g} off what the network gives in float64, "
                f"allowed are {allowed[worst][row]:.3g}",
                _evidence(inputs, actual, exact, allowed, share),
            )
        return float(share[worst][row])

    def tolerance(self, inputs: Inputs) -> npt.NDArray[np.float64]:
        """(B,) how far any output of a record may be off, with what float32 costs measured of each."""
        few = inputs if inputs.noise is None else inputs._replace(noise=inputs.noise[:_MEASURED_SAMPLES])
        exact = self._exact(few)
        rounded = self._rounded(few, exact)
        allowed = [np.maximum(plain, TIMES * rounded[name]) for name, plain in self._plain(inputs, exact).items()]
        largest: npt.NDArray[np.float64] = np.max(allowed, axis=0)
        return largest

    def _plain(self, inputs: Inputs, exact: Exact) -> Exact:
        """(B,) by output: 1e-4 nats a field plus 1e-5 of the largest term.

        The output itself counts as a term: with a field hidden, those of the others may be larger than any of the
        record's own, and no larger than both together.
        """
        terms = np.zeros(inputs.rows) if self._terms is None else self._terms(inputs)
        sizes = {name: distance(values, np.zeros_like(values)) for name, values in exact.items()}
        return {name: tolerance(self._fields, np.maximum(terms, size)) for name, size in sizes.items()}

    def _allowed(self, inputs: Inputs, exact: Exact, off: Exact) -> Exact:
        """(B,) by output; what float32 costs is measured of records that are off by a good part of the rest."""
        allowed = self._plain(inputs, exact)
        doubtful = np.flatnonzero(~np.all([off[name] <= _DOUBTFUL * allowed[name] for name in exact], axis=0))
        if doubtful.size:
            rounded = self._rounded(inputs.take(doubtful), {name: values[doubtful] for name, values in exact.items()})
            for name, costs in rounded.items():
                allowed[name][doubtful] = np.maximum(allowed[name][doubtful], TIMES * costs)
        return allowed

    def _run(self, inputs: Inputs) -> runs.Outputs:
        try:
            return runs.run(self._session, inputs)
        except (Fail, InvalidArgument, RuntimeException) as error:
            said = " ".join(str(error).split())
            raise ParityFailed(f"{self._where(inputs)}: ONNX Runtime says {said}", inputs.arrays()) from error

    def _exact(self, inputs: Inputs) -> Exact:
        exact = self.reference(inputs)
        return {name: exact[name] for name in self._outputs}

    def _rounded(self, inputs: Inputs, exact: Exact) -> Exact:
        rounded = self.reference.rounded(inputs, exact)
        # Where torch itself overflows, nothing is allowed more.
        return {name: np.where(np.isfinite(values), values, 0.0) for name, values in rounded.items()}

    def _where(self, inputs: Inputs) -> str:
        drawn = "" if inputs.noise is None else f", draws: {_draws(inputs)}"
        return f"{self._graph} (records: {inputs.rows}{drawn})"


def of_scorer(scorer: ScoringNetwork, session: onnxruntime.InferenceSession) -> Comparison:
    """`scorer.onnx` beside its network.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        session: Of the graph.
    """
    vae = scorer.vae
    return Comparison("scorer.onnx", session, scorer, _numbers(vae), vae.likelihood.fields, terms_of(vae))


def verify_parity(
    scorer: ScoringNetwork, session: onnxruntime.InferenceSession, every: Record, noise: npt.NDArray[np.float32]
) -> float:
    """Compare `scorer.onnx` with its network; see `Comparison.verify`.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        session: Of the graph.
        every: Held-out records, and after them extreme ones.
        noise: eps, (256, K) float32.
    """
    return of_scorer(scorer, session).verify(Inputs(every, noise), _most(scorer.vae))


def verify_encoder_and_decoder(
    vae: VAE,
    encoder: onnxruntime.InferenceSession,
    decoder: onnxruntime.InferenceSession,
    every: Record,
    noise: npt.NDArray[np.float32],
) -> float:
    """Compare `encoder.onnx` and `decoder.onnx` with the network, the latter on latents of the prior and of records.

    A parameter may be off by 1e-4 plus 1e-5 of the largest of its kind; see `Comparison.verify` for the rest.

    Args:
        vae: The trained model, on the CPU.
        encoder: A session of `encoder.onnx`.
        decoder: A session of `decoder.onnx`.
        every: Held-out records, and after them extreme ones.
        noise: eps, (256, K) float32.
    """
    # A code has no variance.
    given = Encoder.names[:1] if vae.deterministic else Encoder.names
    numbers = _numbers(vae)
    encoding = Comparison("encoder.onnx", encoder, Encoder(vae).eval(), numbers, outputs=given)
    decoding = Comparison("decoder.onnx", decoder, Decoder(vae).eval(), numbers)
    latents = Inputs({"latent": np.concatenate([noise, _latents(vae, every, noise)])})
    return max(encoding.verify(Inputs(every), _most(vae)), decoding.verify(latents, _most(vae)))


def batches(every: Inputs, most: int) -> Iterator[Inputs]:
    """Batches to compare, from one row to many.

    Args:
        every: Held-out records and after them extreme ones, which are allowed to be off by more: of each there is a
            batch of one, and every other holds both.
        most: Rows in a batch.
    """
    yield every.take(slice(-1, None))
    for wanted in sorted({min(batch, most, every.rows) for batch in PARITY_BATCHES}):
        last = wanted // 2
        yield every.take(np.r_[: wanted - last, every.rows - last : every.rows])


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


def terms_of(vae: VAE) -> Terms:
    """The largest summand of a record's scores, by the trained model."""

    def terms(inputs: Inputs) -> npt.NDArray[np.float64]:
        assert inputs.noise is not None
        return largest_term(vae, inputs.records, inputs.noise)

    return terms


@torch.no_grad()
def _latents(vae: VAE, every: Record, noise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(B, K) one draw of each record."""
    found = []
    for piece in pieces(every, records_a_pass(vae, 1)):
        posterior = vae.posterior(vae.standardise(as_torch(piece)))
        found.append(torch.cat([posterior.mean, torch.exp(0.5 * posterior.log_variance)], dim=1).numpy())
    mean, deviation = np.split(np.concatenate(found), 2, axis=1)
    latents: npt.NDArray[np.float32] = mean + deviation * np.resize(noise, mean.shape)
    return latents


def _share(off: npt.NDArray[np.float64], allowed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B,) off of allowed; infinite where either is no number."""
    with np.errstate(invalid="ignore"):
        share = off / allowed
    return np.where(np.isfinite(share), share, math.inf)


def _evidence(
    inputs: Inputs, actual: runs.Outputs, exact: Exact, allowed: Exact, share: Exact
) -> dict[str, npt.NDArray[np.generic]]:
    """The records that differ, and for each output both answers and what is allowed."""
    rows = np.flatnonzero(~np.all([values <= 1.0 for values in share.values()], axis=0))
    evidence = inputs.take(rows).arrays()
    for name, values in exact.items():
        evidence[f"{name}_onnxruntime"] = actual[name][rows]
        evidence[f"{name}_float64"] = values[rows]
        evidence[f"{name}_allowed"] = allowed[name][rows]
    return evidence


def _numbers(vae: VAE) -> Callable[[int], int]:
    return lambda draws: vae.widest * draws


def _most(vae: VAE) -> Callable[[int], int]:
    return lambda draws: records_a_pass(vae, draws, _LARGEST_RUN)


def _draws(inputs: Inputs) -> int:
    return 1 if inputs.noise is None else len(inputs.noise)
