"""A whole run: what stands in the bundle, and that the same run gives the same scores."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bundle.contents.golden import Golden
from bundle.folder import contents, store
from bundle.record.schema import TableSchema
from tests.conftest import as_data
from tests.training.conftest import mixed_table
from training import config, pipeline
from training.data import transactions
from training.errors import ConfigInvalid
from training.fitting import words
from training.fitting.progress import Progress

pytestmark = pytest.mark.slow

TINY = {"network": {"hidden": (8,), "latent_size": 2}, "fit": {"epochs": 2}}
SETTINGS = config.build(
    TINY
    | {
        "objective": {"beta": 0.5, "free_nats": 0.1},
        "data": {"label": "label", "normal": "ok"},
        "fields": [
            {"name": "when", "kind": "timestamp"},
            {"name": "height", "kind": "numeric", "likelihood": "fixed-gaussian"},
            {"name": "visits", "kind": "numeric", "likelihood": "student-t", "degrees_of_freedom": 3.0},
            {"name": "flag", "kind": "numeric", "minimum_scale": 0.5},
            {"name": "member", "kind": "boolean"},
            {"name": "colour", "kind": "categorical"},
        ],
    }
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Trained, list[str]]:
    said: list[str] = []
    out = tmp_path_factory.mktemp("run") / "models"
    return pipeline.train(as_data(mixed_table()), out, "mixed", SETTINGS, device="cpu", say=said.append), said


def test_the_bundle_holds_what_the_design_promises(run: tuple[pipeline.Trained, list[str]]) -> None:
    trained, said = run
    assert {path.name for path in trained.folder.iterdir()} == {
        "manifest.json",
        "scorer.onnx",
        "explainer.onnx",
        "encoder.onnx",
        "decoder.onnx",
        "noise.npy",
        "calibration.npz",
        "golden.json",
        "report.html",
    }
    facts = trained.manifest.training
    assert sum(facts.rows.values()) == 600
    assert 0.0 <= facts.metrics["elbo_auroc"] <= 1.0
    assert config.build(dict(facts.config)).network.hidden == (8,)
    assert any("the exported graphs agree with the network" in line for line in said)
    assert [path.name for path in trained.folder.parent.iterdir()] == ["1"]


def test_golden_records_are_raw_and_of_every_shape(run: tuple[pipeline.Trained, list[str]]) -> None:
    folder = run[0].folder
    golden = Golden.model_validate_json((folder / "golden.json").read_bytes())
    objects = [case.record for case in golden.cases if isinstance(case.record, dict)]
    assert any(isinstance(record.get("when"), str) for record in objects)
    assert any(isinstance(case.record, list) for case in golden.cases)
    assert {case.samples for case in golden.cases} == {1, 16, 256}
    assert all(np.isfinite(case.expected["elbo"]) for case in golden.cases)


def test_every_score_is_calibrated_for_every_number_of_draws(run: tuple[pipeline.Trained, list[str]]) -> None:
    trained = run[0]
    calibration = contents.calibration(store.load(trained.folder.parents[1], trained.name, trained.version))
    for score in trained.manifest.scores:
        for samples in trained.manifest.sample_counts:
            assert calibration.scores(score.name, samples).size == trained.manifest.training.rows["calibration"]


def test_the_same_run_gives_the_same_scores(run: tuple[pipeline.Trained, list[str]], tmp_path: Path) -> None:
    shutil.copytree(run[0].folder.parent, tmp_path / "mixed")
    pipeline.train(as_data(mixed_table()), tmp_path, "mixed", SETTINGS, device="cpu")
    assert store.versions(tmp_path, "mixed") == [1, 2]
    first, second = (store.load(tmp_path, "mixed", version).files for version in (1, 2))
    for name in ("calibration.npz", "noise.npy", "golden.json"):
        assert first[name] == second[name], name
    # The report says which version it is of, when it was written and how long the training took.
    own = re.compile(rb'<p class="origin">.*</p>')
    reports = [files["report.html"] for files in (first, second)]
    assert [len(own.findall(report)) for report in reports] == [1, 1]
    assert b"version 2" in reports[1]
    assert own.sub(b"", reports[0]) == own.sub(b"", reports[1])


def test_a_label_without_its_normal_value_is_said_to_decide_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    settings = config.build(TINY | {"data": {"label": "label"}})

    def enough(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(as_data(mixed_table()), tmp_path, "all", settings, device="cpu", say=said.append, report=enough)
    assert any("--normal" in line for line in said)


def test_a_bad_name_and_a_missing_gpu_are_wrong_calls(tmp_path: Path) -> None:
    data = as_data(mixed_table())
    with pytest.raises(ConfigInvalid, match="no model name"):
        pipeline.train(data, tmp_path, "No Name", config.build(TINY))
    with pytest.raises(ConfigInvalid, match="no GPU"):
        pipeline.train(data, tmp_path, "name", config.build(TINY), device="cuda")
    with pytest.raises(ConfigInvalid, match="complexity and texture are scores of images alone"):
        pipeline.train(data, tmp_path, "name", config.build(TINY | {"scoring": {"anomaly_score": "texture"}}))
    assert list(tmp_path.iterdir()) == []


def test_heavy_tails_beta_and_free_nats_are_trained_exported_and_calibrated(
    run: tuple[pipeline.Trained, list[str]],
) -> None:
    manifest = run[0].manifest
    assert isinstance(manifest.record, TableSchema)
    by_name = {field.name: field for field in manifest.record.numeric}
    assert (by_name["visits"].likelihood, by_name["visits"].degrees_of_freedom) == ("student-t", 3.0)
    assert by_name["flag"].likelihood == "gaussian"
    objective = manifest.training.config["objective"]
    assert isinstance(objective, Mapping)
    assert objective["beta"] == 0.5


def test_draws_that_carry_no_weight_are_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_FEW_SAMPLES", 2.0)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("exporting"):
            raise KeyboardInterrupt

    content = {"network": {"hidden": (8,)}, "fit": {"epochs": 1}, "objective": {"kind": "forward-kl", "draws": 2}}
    table = as_data(transactions.simulate(700, seed=3).drop_columns(["fraud"]))
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(table, tmp_path, "weighted", config.build(content), device="cpu", say=say)
    (warning,) = (line for line in said if "carry the weight" in line)
    assert warning.startswith("of 2 draws a record, ")
