"""Studies run to their end on made-up data, one after the other in one process; their figures mean nothing here."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies import __main__ as every
from benchmarks.studies import beta, fitting, log_likelihood, out_of_distribution, reconstruction_probability, tabular
from benchmarks.studies.__main__ import STUDIES
from bundle.record.schema import RecordSchema
from tests.benchmarks import made_up_data
from training.export import graphs
from training.network.scores import ScoringNetwork

pytestmark = pytest.mark.slow

NUMBER = r"\d+\.\d+"
SMALLER: dict[str, dict[str, Any]] = {
    "out_of_distribution": {
        "BUDGETS": {
            "small": out_of_distribution.Budget(
                {"fashion_mnist": 1, "mnist": 1, "cifar10": 1, "gtsrb": 1}, 40, 20, 30, 1
            )
        },
        "SIGNS_TRAINED": 40,
        # Of one architecture with the other models, because exporting one takes seconds.
        "QUESTIONS": {"forward KL": {"objective": {"kind": "forward-kl", "draws": 2}}},
    },
    "autoencoders": {"EPOCHS": 1},
    "log_likelihood": {
        "BUDGETS": {"small": log_likelihood.Budget(40, 1, 20, 10)},
        "HELD_OUT": 20,
        "SAMPLES": 50,
        "CURVE": (1, 5),
    },
    "reconstruction_probability": {"BUDGETS": {"small": reconstruction_probability.Budget(50, 1)}},
    "symbols": {"SCENES": (25, 50), "SHOWN": 50, "STEPS": 5, "TESTED": 40},
    "beta": {"BUDGETS": {"small": beta.Budget(50, 1)}},
    "fraud": {},
    "em": {"SETTLED": 20, "TURNED_STEPS": 20, "EPOCHS": 2},
}
"""What each has that no option makes small enough."""
SAID = {
    "out_of_distribution": [
        r"Trained on 40 images of CIFAR-10 in \d+ s; −ELBO [\d,]+\.\d nats",
        rf"\| combined \|( {NUMBER} \|){{6}}",
        rf"combined, SVHN \*: {NUMBER} \({NUMBER} to {NUMBER}\), 20 images",
        rf"\| CIFAR-10 \| forward KL \| [\d,]+ \| [\d,]+ \|( {NUMBER} \({NUMBER} to {NUMBER}\) \|){{3}}",
    ],
    "autoencoders": [
        rf"\| dense 784-32-784 \| 32 \| 50,992 \| {NUMBER} \| {NUMBER} \| 71\.94 \| \d+ \|",
        rf"\| fully convolutional 32-4-4-32 \| 196 \| 2,989 \| {NUMBER} \| {NUMBER} \| 64\.89 \| \d+ \|",
    ],
    "log_likelihood": [
        rf"\| VAE \| {NUMBER} ± {NUMBER} \|  \| 1\.0 \| 86\.76 \|",
        rf"\| IWAE, 50 draws \| {NUMBER} ± {NUMBER} \| -?{NUMBER} ± {NUMBER} \| {NUMBER} \| 84\.78 \|",
    ],
    "reconstruction_probability": [
        rf"\| 9 \|( {NUMBER} / {NUMBER} \|){{6}}",
        rf"\| mean \|( {NUMBER} / {NUMBER} \|){{6}}",
        rf"\| all attacks \| 120 \|( {NUMBER} / {NUMBER} \|){{6}}",
        rf"\| user to root \| 30 \|( {NUMBER} / {NUMBER} \|){{6}}",
    ],
    "symbols": [
        rf"\| 50 \|( {NUMBER} \|){{4}}",
        r"Symbols moved by up to a pixel",
        r"\| 2 \| row 2, column 2 \| (empty|circle|square) \|",
    ],
    "beta": [rf"\| 0\.5 \|( {NUMBER} \|){{3}} \d+ \|", rf"\| 16 \|( {NUMBER} \|){{3}} \d+ \|"],
    "fraud": [
        r"credit cards: 108 normal rows to train on, 132 to test on, fraud 18\.18% of these; 0\.1% are 0 false alarms",
        rf"\| combined \|( {NUMBER} \|){{4}}",
        r"simulated cards, no earlier labels: 1\d\d normal rows to train on, 7\d to test on",
    ],
    "em": [
        rf"\| mixture, exact \|( -{NUMBER} \|){{2}} 0\.0000 to 0\.0000 \| 0\.0000 \|  \| \de-1\d \| 0 of 8 \| 0 \|",
        rf"\| VAE, linear encoder and decoder \|( -{NUMBER} \|){{2}} {NUMBER} to {NUMBER} \|( {NUMBER} \|){{2}} ",
        rf"\| 2 \|( {NUMBER} \|){{6}}",
    ],
}
"""What each prints, the numbers as patterns."""
PICTURES = {
    "out_of_distribution": {"out_of_distribution.svg"},
    "autoencoders": {"autoencoders.png"},
    "log_likelihood": {"log_likelihood.svg"},
    "symbols": {"symbols.png"},
    "beta": {"beta.svg", "beta_traversals.png"},
    "em": {"em.svg"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the public data sets'."""
    folder = tmp_path_factory.mktemp("data")
    made_up_data.write(folder)
    return folder


def scorer_alone(scorer: ScoringNetwork, record: RecordSchema) -> graphs.Graphs:
    """The graph that studies score with; the others take as long to export again."""
    given, free = graphs.arguments(record, scorer.vae.latent_size)
    return graphs.Graphs(graphs.to_onnx(scorer, given, scorer.names, free), b"", b"")


@pytest.mark.parametrize("name", STUDIES)
def test_it_runs_to_its_end_and_prints_its_tables(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = importlib.import_module(f"benchmarks.studies.{name}")
    for constant, value in SMALLER[name].items():
        monkeypatch.setattr(study, constant, value)
    if name == "out_of_distribution":
        of_images = fitting.fit
        network = {"network": {"channels": (4,)}}
        monkeypatch.setattr(fitting, "fit", lambda images, content, *of: of_images(images, network | content, *of))
    monkeypatch.setattr(graphs, "export", scorer_alone)
    of_tables = tabular.fit
    fit = {"fit": {"epochs": 1}}
    monkeypatch.setattr(tabular, "fit", lambda data, rows, content, *of: of_tables(data, rows, content | fit, *of))
    pictures = tmp_path / "made" / "on" / "the way"
    monkeypatch.setattr("sys.argv", [name, str(data), "--pictures", str(pictures)])
    study.main()
    said = capsys.readouterr().out
    for pattern in (*SAID[name], r"^\d+ s$"):
        assert re.search(pattern, said, re.MULTILINE), (pattern, said)
    drawn = {path.name for path in pictures.iterdir()}
    assert drawn == PICTURES.get(name, set())
    assert all(path.stat().st_size > 1000 for path in pictures.iterdir())


def test_all_of_them_end_with_a_failure_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(every, "STUDIES", ("fraud",))
    results = tmp_path / "results"
    monkeypatch.setattr("sys.argv", ["studies", str(tmp_path), "--results", str(results), "--seed", "1"])
    assert every.main() == 1
    assert f"fraud: failed, see {results / 'fraud.log'}, after" in capsys.readouterr().out
    assert f"there is no file {tmp_path / 'creditcard_subset.parquet'}" in (results / "fraud.log").read_text()


def test_none_is_left_out() -> None:
    folder = Path(tabular.__file__).parent
    studies = {path.stem for path in folder.glob("*.py") if "def main()" in path.read_text()} - {"__main__"}
    assert studies == set(STUDIES) == SMALLER.keys() == SAID.keys()
