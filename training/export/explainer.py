"""`explainer.onnx`: its export, the proof that it explains as the network does, and what is usual by it."""

import numpy as np
import numpy.typing as npt
import onnxruntime

from bundle.contents.explanation import decoded_numbers, usual
from bundle.contents.golden import GoldenCase, plain, tolerance
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.record.schema import RecordSchema
from training import modality
from training.export import graphs, parity, runs
from training.export.parity import PARITY_SAMPLES
from training.export.runs import Outputs
from training.network.batch import Record
from training.network.vae import VAE

_LARGEST_RUN = 2**22
"""Decoded numbers in one run: more leave the cache."""
_USUAL_NUMBERS = 2**26
_USUAL_RECORDS = (20, 1000)
"""Least and most held-out records that tell what is usual; as many between as so many decoded numbers allow."""
_GIVEN_OTHERS = "conditional_surprisal"
_MAGNIFIED = 1e-4
"""Of the largest surprisal given all others may be off: filling in a field again and again magnifies what float32
rounds, and where a field that decides much is hidden, terms of other fields are thousands of nats."""


class ExportedExplainer:
    """One model's `explainer.onnx`, beside the network that it was made of.

    Args:
        vae: The trained model, on the CPU.
        schema: The bundle's fields.
        noise: eps, (256, K) float32.
    """

    def __init__(self, vae: VAE, schema: RecordSchema, noise: npt.NDArray[np.float32]) -> None:
        self._explainer = modality.of(schema).explainer(vae).eval()
        self._schema = schema
        self._noise = noise
        given, free = graphs.arguments(schema, vae.latent_size)
        self.graph = graphs.to_onnx(self._explainer, given, self._explainer.names, free)
        """The bytes of `explainer.onnx`."""
        self.session = runs.session(self.graph)

    def explain(
        self, record: Record, samples: int, session: onnxruntime.InferenceSession | None = None, rows: int | None = None
    ) -> Outputs:
        """What the graph gives.

        Args:
            record: The record tensors, B records.
            samples: Number of draws, L.
            session: Of the graph; its own by default.
            rows: Records in one run; by default what suits a run.

        Returns:
            See `TableExplainer.forward` and `ImageExplainer.forward`; B rows each.
        """
        step = rows or max(1, _LARGEST_RUN // self._numbers(samples))
        return runs.score(session or self.session, record, self._noise[:samples], rows_a_run=step)

    def verify_parity(self, every: Record) -> float:
        """Compare ONNX Runtime with torch, on held-out records and on extreme ones; see `parity.verify_parity`.

        Args:
            every: Held-out records, and after them extreme ones.

        Returns:
            The largest distance found, as a share of the tolerance.

        Raises:
            ParityFailed: Something is off by more than that, or not finite.
        """
        worst = 0.0
        for samples in PARITY_SAMPLES:
            most = max(2, _LARGEST_RUN // self._numbers(samples))
            for used in parity.batches(every, most):
                rows = len(next(iter(used.values())))
                actual = self.explain(used, samples, rows=rows)
                expected = runs.run_with_torch(self._explainer, used, self._noise[:samples], rows)
                words = f"{samples} draws, {rows} records"
                given_others = {_GIVEN_OTHERS: expected.pop(_GIVEN_OTHERS)}
                allowed = self._tolerance(used, samples)
                worst = max(worst, parity.share_off(actual, expected, allowed, words))
                allowed += _magnified(given_others)
                worst = max(worst, parity.share_off(actual, given_others, allowed, words))
        return worst

    def usual(self, record: Record, samples: int) -> UsualSurprisal:
        """What is usual of held-out normal records.

        Args:
            record: Held-out normal records.
            samples: The bundle's number of draws.
        """
        least, most = _USUAL_RECORDS
        rows = min(most, max(least, _USUAL_NUMBERS // self._numbers(samples)))
        some = {kind: values[:rows] for kind, values in record.items()}
        return usual(self._schema, some, self.explain(some, samples))

    def golden(self, raw: list[GoldenCase], record: Record) -> tuple[GoldenCase, ...]:
        """What golden records are explained by.

        Args:
            raw: Cases of the scorer with one number of draws.
            record: The tensors of the same records, in the same order.
        """
        (samples,) = {case.samples for case in raw}
        outputs = self.explain(record, samples)
        allowed = self._tolerance(record, samples) + _magnified(outputs)
        return tuple(
            GoldenCase(
                record=case.record,
                samples=samples,
                expected={name: plain(values[row]) for name, values in outputs.items()},
                tolerance=float(allowed[row]),
            )
            for row, case in enumerate(raw)
        )

    def _tolerance(self, record: Record, samples: int) -> npt.NDArray[np.float64]:
        vae = self._explainer.vae
        return tolerance(self._explainer.fields, parity.largest_term(vae, record, self._noise[:samples]))

    def _numbers(self, samples: int) -> int:
        return decoded_numbers(self._schema, samples)


def _magnified(outputs: Outputs) -> npt.NDArray[np.float64]:
    largest: npt.NDArray[np.float64] = np.abs(outputs[_GIVEN_OTHERS].astype(np.float64)).max(axis=1)
    return _MAGNIFIED * largest
