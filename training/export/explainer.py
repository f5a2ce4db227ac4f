"""`explainer.onnx`: its export, the proof that it explains as the network does, and what is usual by it."""

import numpy as np
import numpy.typing as npt

from bundle.contents.explanation import decoded_numbers, usual
from bundle.contents.golden import GoldenCase, plain
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.record.schema import RecordSchema
from training import modality
from training.export import graphs, runs
from training.export.parity import Comparison, terms_of
from training.export.runs import Inputs, Outputs
from training.network.batch import Record
from training.network.vae import VAE

_LARGEST_RUN = 2**22
"""Decoded numbers in one run: more leave the cache."""
_USUAL_NUMBERS = 2**26
_USUAL_RECORDS = (20, 1000)
"""Least and most held-out records that tell what is usual; as many between as so many decoded numbers allow."""


class ExportedExplainer:
    """One model's `explainer.onnx`, beside the network that it was made of.

    Args:
        vae: The trained model, on the CPU.
        schema: The bundle's fields.
        noise: eps, (256, K) float32.
    """

    def __init__(self, vae: VAE, schema: RecordSchema, noise: npt.NDArray[np.float32]) -> None:
        explainer = modality.of(schema).explainer(vae).eval()
        self._schema = schema
        self._noise = noise
        given, free = graphs.arguments(schema, vae.latent_size)
        self.graph = graphs.to_onnx(explainer, given, explainer.names, free)
        """The bytes of `explainer.onnx`."""
        self.session = runs.session(self.graph)
        self.comparison = Comparison(
            "explainer.onnx", self.session, explainer, self._numbers, explainer.fields, terms_of(vae)
        )
        """With its network."""

    def explain(self, record: Record, samples: int) -> Outputs:
        """What the graph gives.

        Args:
            record: The record tensors, B records.
            samples: Number of draws, L.

        Returns:
            See `TableExplainer.forward` and `ImageExplainer.forward`; B rows each.
        """
        step = max(1, _LARGEST_RUN // self._numbers(samples))
        return runs.score(self.session, record, self._noise[:samples], rows_a_run=step)

    def verify_parity(self, every: Record) -> float:
        """Compare the graph with its network; see `parity.Comparison.verify`.

        Args:
            every: Held-out records, and after them extreme ones.
        """
        return self.comparison.verify(
            Inputs(every, self._noise), lambda samples: max(2, _LARGEST_RUN // self._numbers(samples))
        )

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
        allowed = self.comparison.tolerance(Inputs(record, self._noise[:samples]))
        return tuple(
            GoldenCase(
                record=case.record,
                samples=samples,
                expected={name: plain(values[row]) for name, values in outputs.items()},
                tolerance=float(allowed[row]),
            )
            for row, case in enumerate(raw)
        )

    def _numbers(self, samples: int) -> int:
        return decoded_numbers(self._schema, samples)
