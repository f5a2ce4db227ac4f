"""ONNX Runtime, torch and a computation in float64 NumPy from the encoder's and the decoder's outputs agree.

The NumPy side uses nothing of `training`: what the scores mean is written down here once more, from DESIGN section 2.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from scipy import special, stats

from bundle.contents.golden import tolerance
from bundle.record.fields import BooleanField, CategoricalField, Derived, NumericField
from bundle.record.schema import TableSchema
from tests.training.last import last
from training import modality
from training.config import NetworkConfig
from training.export.graphs import Graphs, export
from training.export.parity import largest_term
from training.export.runs import score, session
from training.network.noise import noise_table
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork
from training.network.vae import VAE
from training.table.vae import TableVAE

pytestmark = pytest.mark.slow

Record = dict[str, npt.NDArray[Any]]
Scores = dict[str, npt.NDArray[np.float64]]
BATCHES, SAMPLES = (1, 2, 1000), (1, 4, 16, 256)

NUMERIC = (
    NumericField(name="amount", missing_rate=0.1, mean=30.0, scale=8.0),
    NumericField(name="epoch", missing_rate=1e-6, mean=1.7e9, scale=3.0e6),
    NumericField(name="fixed", missing_rate=0.2, mean=0.0, scale=1.0, likelihood="fixed-gaussian", fixed_scale=0.5),
    NumericField(name="sharp", missing_rate=0.1, mean=-4.0, scale=1e-3, minimum_scale=0.05),
    NumericField(name="heavy", missing_rate=0.1, mean=2.0, scale=3.0, likelihood="student-t", degrees_of_freedom=3.5),
    NumericField(name="bytes", missing_rate=0.1, transform="log", offset=2.0, mean=7.0, scale=2.0),
)
BOOLEAN = (BooleanField(name="new", missing_rate=0.05), BooleanField(name="paid", missing_rate=0.3))
COUNTRY = CategoricalField(name="country", missing_rate=0.1, vocabulary=tuple("ABCDEFG"))
ONLY = CategoricalField(name="only", missing_rate=0.1, vocabulary=("one",))
PARTS = {"hour": ("0", "1", "2"), "weekday": ("monday", "friday")}
HOUR, WEEKDAY = (
    CategoricalField(name=name, missing_rate=0.2, vocabulary=texts, derived=Derived(source="at", part=name))
    for name, texts in PARTS.items()
)
MIXED = TableSchema(
    fields=(COUNTRY, NUMERIC[0], BOOLEAN[0], HOUR, NUMERIC[1], NUMERIC[2], WEEKDAY, BOOLEAN[1], ONLY, *NUMERIC[3:])
)
GONE = {"numeric": np.nan, "boolean": -1, "categorical": -1}
ONE_KIND = {
    "numeric": TableSchema(fields=(NUMERIC[2], NUMERIC[2].model_copy(update={"name": "other", "fixed_scale": 2.0}))),
    "boolean": TableSchema(fields=BOOLEAN),
    "categorical": TableSchema(fields=(COUNTRY, ONLY)),
}


def build(schema: TableSchema, seed: int = 0) -> TableVAE:
    """A random model whose scores depend on z a good deal."""
    torch.manual_seed(seed)
    vae = modality.of(schema).vae(NetworkConfig(hidden=(12, 8), latent_size=3))
    assert isinstance(vae, TableVAE)
    with torch.no_grad():
        for weights in vae.parameters():
            weights.mul_(1.5)
    return vae


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model, its graphs, and sessions of them."""

    schema: TableSchema
    vae: VAE
    graphs: Graphs
    scorer: onnxruntime.InferenceSession
    encoder: onnxruntime.InferenceSession
    decoder: onnxruntime.InferenceSession
    noise: npt.NDArray[np.float32]

    @classmethod
    def of(cls, schema: TableSchema, vae: VAE) -> "Exported":
        graphs = export(ScoringNetwork(vae, None), schema)
        scorer, encoder, decoder = (
            session(graph, threads=1) for graph in (graphs.scorer, graphs.encoder, graphs.decoder)
        )
        return cls(schema, vae, graphs, scorer, encoder, decoder, noise_table(vae.latent_size, 0))

    def served(self, record: Record, samples: int) -> Scores:
        outputs = self.scorer.run(list(LIKELIHOOD_OUTPUTS), {**record, "noise": self.noise[:samples]})
        return {name: output.astype(np.float64) for name, output in zip(LIKELIHOOD_OUTPUTS, outputs, strict=True)}

    @torch.no_grad()
    def in_torch(self, record: Record, samples: int) -> Scores:
        tensors = {kind: torch.from_numpy(values) for kind, values in record.items()}
        outputs = ScoringNetwork(self.vae, None)(tensors, torch.from_numpy(self.noise[:samples]))
        return {name: output.double().numpy() for name, output in zip(LIKELIHOOD_OUTPUTS, outputs, strict=True)}


@dataclasses.dataclass(frozen=True)
class Independent:
    """What every score is made of, in float64: (B, L) terms of each draw, and the posterior."""

    likelihood: npt.NDArray[np.float64]
    importance: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]

    @classmethod
    def of(cls, exported: Exported, record: Record) -> "Independent":
        mean, log_variance = (part.astype(np.float64) for part in exported.encoder.run(None, record))
        deviation = np.exp(0.5 * log_variance)
        latent = mean[:, None] + deviation[:, None] * exported.noise.astype(np.float64)
        names = [output.name for output in exported.decoder.get_outputs()]
        decoded = exported.decoder.run(names, {"latent": latent.reshape(-1, latent.shape[-1]).astype(np.float32)})
        wide = [part.astype(np.float64).reshape(*latent.shape[:2], -1) for part in decoded]
        parameters = dict(zip(names, wide, strict=True))
        fields, gaps = log_densities(exported.schema, record, parameters)
        likelihood = sum(fields) + sum(gaps)[:, None]
        prior = stats.norm.logpdf(latent).sum(axis=-1)
        proposal = stats.norm.logpdf(latent, mean[:, None], deviation[:, None]).sum(axis=-1)
        kl = 0.5 * (mean**2 + deviation**2 - 1 - 2 * np.log(deviation)).sum(axis=-1)
        largest = np.maximum(np.abs(fields).max(axis=(0, 2)), np.abs(kl))
        return cls(likelihood, likelihood + prior - proposal, kl, mean, largest)

    def scores(self, rows: slice, samples: int) -> Scores:
        likelihood, importance = self.likelihood[rows, :samples], self.importance[rows, :samples]
        expected = likelihood.mean(axis=1)
        return {
            "log_reconstruction_probability": special.logsumexp(likelihood, axis=1) - math.log(samples),
            "elbo": expected - self.kl[rows],
            "iwae": special.logsumexp(importance, axis=1) - math.log(samples),
            "expected_log_likelihood": expected,
            "latent_mean": self.mean[rows],
        }


def log_densities(schema: TableSchema, record: Record, parameters: Scores) -> tuple[list[Any], list[Any]]:
    """log p(x_j | z_l) of each field (B, L), and the log-probability of its being missing or not (B,)."""
    columns, gaps, start = [], [], 0
    timestamps: set[str] = set()

    def gap(field: Any, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.where(missing, np.log(field.missing_rate), np.log1p(-field.missing_rate))

    for position, field in enumerate(schema.numeric):
        value = record["numeric"][:, position]
        with np.errstate(over="ignore"):
            exact = np.clip((transformed(field, np.nan_to_num(value)) - field.mean) / field.scale, -1e12, 1e12)
        deviation = np.exp(0.5 * parameters["numeric_log_variance"][..., position])
        family = stats.t(field.degrees_of_freedom) if field.likelihood == "student-t" else stats.norm
        located = (exact[:, None] - parameters["numeric_mean"][..., position]) / deviation
        density = family.logpdf(located) - np.log(deviation)
        columns.append(np.where(np.isnan(value)[:, None], 0.0, density))
        gaps.append(gap(field, np.isnan(value)))
    for position, flag in enumerate(schema.boolean):
        value = record["boolean"][:, position]
        sign = np.where(value == 1, 1.0, -1.0)[:, None]
        mass = special.log_expit(sign * parameters["boolean_logits"][..., position])
        columns.append(np.where(value[:, None] == -1, 0.0, mass))
        gaps.append(gap(flag, value == -1))
    for position, category in enumerate(schema.categorical):
        code = record["categorical"][:, position]
        slots = special.log_softmax(parameters["categorical_logits"][..., start : start + category.size], axis=-1)
        mass = np.take_along_axis(slots, np.maximum(code, 0)[:, None, None], axis=-1)[..., 0]
        columns.append(np.where(code[:, None] == -1, 0.0, mass))
        start += category.size
        if category.derived is None or category.derived.source not in timestamps:
            gaps.append(gap(category, code == -1))
        if category.derived is not None:
            timestamps.add(category.derived.source)
    return columns, gaps


def transformed(field: NumericField, value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """y, of which mean and scale are."""
    if field.offset is None:
        return value
    above = np.log(np.abs(value) + field.offset)
    return np.where(value >= 0, above, np.log(field.offset) + value / field.offset)


def ordinary(schema: TableSchema, rows: int, seed: int = 0) -> Record:
    """Random records, a tenth of the values missing, some categories unknown."""
    rng = np.random.default_rng(seed)
    record: Record = {}
    if schema.numeric:
        means, scales = ([getattr(field, name) for field in schema.numeric] for name in ("mean", "scale"))
        record["numeric"] = rng.normal(size=(rows, len(means))) * scales + means
        for column, field in enumerate(schema.numeric):
            if field.offset is not None:
                record["numeric"][:, column] = np.exp(record["numeric"][:, column]) - field.offset
    if schema.boolean:
        record["boolean"] = rng.integers(0, 2, (rows, len(schema.boolean))).astype(np.int8)
    if schema.categorical:
        record["categorical"] = np.stack([rng.integers(0, field.size, rows) for field in schema.categorical], axis=1)
    for kind, values in record.items():
        values[rng.uniform(size=values.shape) < 0.1] = GONE[kind]
    return record


def records(schema: TableSchema) -> Record:
    """Extreme records first (one field alone, 1e6 deviations out, any double), then ordinary ones: 1000 in all."""
    record = ordinary(schema, 1000)
    alone = [(kind, column) for kind, values in record.items() for column in range(values.shape[1])]
    for row, (kind, column) in enumerate(alone):
        for other, values in record.items():
            values[row] = GONE[other]
        record[kind][row, column] = 1
    if schema.numeric:
        numeric = record["numeric"][len(alone) : extremes(schema)]
        for column, field in enumerate(schema.numeric):
            numeric[2 * column : 2 * column + 2, column] = field.mean + np.array([-1e6, 1e6]) * field.scale
        numeric[-24:-20] = np.array([[1e300], [-1e300], [1.7e308], [5e-324]])
        bits = np.random.default_rng(1).integers(0, 2**64, numeric[-20:].shape, np.uint64).view(np.float64)
        numeric[-20:] = np.where(np.isinf(bits), np.nan, bits)
    return record


def extremes(schema: TableSchema) -> int:
    return len(schema.fields) + (2 * len(schema.numeric) + 24 if schema.numeric else 0)


def part(record: Record, rows: Any) -> Record:
    return {kind: values[rows] for kind, values in record.items()}


def assert_close(actual: Scores, expected: Scores, allowed: npt.NDArray[np.float64]) -> None:
    for name in LIKELIHOOD_OUTPUTS:
        assert np.isfinite(actual[name]).all(), name
        off = np.abs(actual[name] - expected[name]).reshape(len(allowed), -1).max(axis=1)
        assert (off <= allowed).all(), f"{name}: {off.max()} at record {off.argmax()}"


def assert_parity(exported: Exported, record: Record, batch: int, samples: int, expected: Independent) -> None:
    """All three agree, in one batch of 1000, and in small batches on every extreme record and a few others."""
    last = len(record[next(iter(record))]) if batch == 1000 else extremes(exported.schema) + 6
    for start in range(0, last, batch):
        rows = slice(start, start + batch)
        allowed = tolerance(len(exported.schema.fields), expected.largest[rows])
        here = part(record, rows)
        served, in_torch = exported.served(here, samples), exported.in_torch(here, samples)
        assert_close(served, expected.scores(rows, samples), allowed)
        assert_close(in_torch, expected.scores(rows, samples), allowed)
        assert_close(served, in_torch, allowed)


@pytest.fixture(scope="module")
def mixed() -> Exported:
    return Exported.of(MIXED, build(MIXED))


@pytest.fixture(scope="module")
def record() -> Record:
    return records(MIXED)


@pytest.fixture(scope="module")
def expected(mixed: Exported, record: Record) -> Independent:
    return Independent.of(mixed, record)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("samples", SAMPLES)
def test_the_graph_torch_and_numpy_agree(
    mixed: Exported, record: Record, expected: Independent, batch: int, samples: int
) -> None:
    assert_parity(mixed, record, batch, samples, expected)


def test_the_scores_differ_enough_for_that_to_mean_something(record: Record, expected: Independent) -> None:
    rows = slice(extremes(MIXED), 1000)
    scores, allowed = expected.scores(rows, 16), tolerance(len(MIXED.fields), expected.largest[rows])
    assert np.median(scores["log_reconstruction_probability"] - scores["expected_log_likelihood"]) > 0.1
    assert np.median(np.abs(scores["iwae"] - scores["log_reconstruction_probability"]) / allowed) > 100
    assert np.median(expected.kl[rows] / allowed) > 100
    assert np.median(allowed) < 2e-3
    assert (record["categorical"] == 0).any(axis=0).all()
    assert (record["categorical"] == -1).any(axis=0).all()


@pytest.mark.parametrize("kind", ONE_KIND)
def test_records_of_one_kind_of_field_agree_with_logits_of_120(kind: str) -> None:
    schema = ONE_KIND[kind]
    vae = build(schema)
    with torch.no_grad():
        for position in range(vae.likelihood.numeric.outputs, vae.likelihood.outputs):
            last(vae.decoder).bias[position] = 120.0 if position % 2 else -120.0
    exported, record = Exported.of(schema, vae), records(schema)
    assert [each.name for each in exported.scorer.get_inputs()] == [kind, "noise"]
    expected = Independent.of(exported, record)
    if kind != "numeric":
        assert expected.likelihood.min() < -110
        assert expected.likelihood.max() > -2
    for batch, samples in ((1, 1), (2, 4), (1000, 16), (1000, 256)):
        assert_parity(exported, record, batch, samples, expected)


def test_torch_names_the_same_largest_term(mixed: Exported, record: Record, expected: Independent) -> None:
    np.testing.assert_allclose(largest_term(mixed.vae, record, mixed.noise), expected.largest, rtol=1e-4)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def test_the_graphs_have_no_randomness_and_no_input_but_records_and_noise(mixed: Exported) -> None:
    inputs = {"scorer": [*MIXED.dtypes, "noise"], "encoder": [*MIXED.dtypes], "decoder": ["latent"]}
    for name, wanted in inputs.items():
        model = onnx.load_from_string(getattr(mixed.graphs, name))
        kinds = {node.op_type for node in nodes(model.graph)}
        kinds |= {node.op_type for function in model.functions for node in function.node}
        assert not {kind for kind in kinds if "Random" in kind or kind in {"Bernoulli", "Multinomial", "Dropout"}}
        assert [each.name for each in model.graph.input] == wanted
        for each in model.graph.input:
            assert each.type.tensor_type.shape.dim[0].dim_param, each.name


def test_float64_stands_only_where_numbers_are_standardised(mixed: Exported) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(mixed.graphs.scorer))
    of = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.input)}
    double = {name for name, kind in of.items() if kind == onnx.TensorProto.DOUBLE}
    touched = {node.op_type for node in nodes(model.graph) if double & {*node.input, *node.output}} - {"Shape"}
    needed = {"IsNaN", "Sub", "Div", "Cast", "Max", "Min", "Add", "Log"}
    assert needed <= touched <= {*needed, "Where"}


@pytest.mark.parametrize("samples", SAMPLES)
def test_a_record_scores_alike_alone_in_any_company_in_any_order_and_after_a_reload(
    mixed: Exported, record: Record, samples: int
) -> None:
    def assert_alike(actual: Any, rows: Any) -> None:
        for name, values in actual.items():
            allowed = 1e-5 * np.maximum(len(MIXED.fields), np.abs(together[name][rows]))
            assert (np.abs(values - together[name][rows]) <= allowed).all(), name

    together = mixed.served(record, samples)
    order = np.random.default_rng(1).permutation(1000)
    assert_alike(mixed.served(part(record, order), samples), order)
    assert_alike(score(mixed.scorer, record, mixed.noise[:samples], rows_a_run=7), slice(None))
    reloaded = dataclasses.replace(mixed, scorer=session(mixed.graphs.scorer, threads=2))
    assert_alike(reloaded.served(record, samples), slice(None))
    for row in range(60):
        assert_alike(mixed.served(part(record, slice(row, row + 1)), samples), slice(row, row + 1))
