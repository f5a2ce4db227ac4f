"""A graph that computes something else than its network is kept aside: nothing serves it, and its place is said."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bundle.folder import refused, store
from tests.conftest import FAST, as_data, simulate_numbers
from tests.training.export import faults
from training import config, pipeline
from training.errors import ParityFailed
from training.export import graphs, refusal
from training.export.graphs import Graphs

SETTINGS = config.build(FAST | {"fit": {"epochs": 2}})
WITHOUT_FAULT = graphs.export


def faulty(*given: object) -> Graphs:
    exported = WITHOUT_FAULT(*given)  # type: ignore[arg-type]
    return dataclasses.replace(exported, scorer=faults.another_constant(exported.scorer, 1.837877))


@pytest.mark.slow
def test_graphs_that_differ_are_kept_with_the_records_and_both_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = as_data(simulate_numbers(seed=1))
    monkeypatch.setattr(graphs, "export", faulty)
    for _ in range(2):  # The second takes the place of the first.
        with pytest.raises(ParityFailed) as failed:
            pipeline.train(data, tmp_path, "mixed", SETTINGS, device="cpu")
    message, folder = str(failed.value), tmp_path / "mixed" / refused.FOLDER
    output, off, allowed = re.search(r"(\w+) is (\S+) off .*, allowed are (\S+)\. No version", message).groups()  # type: ignore[union-attr]
    assert float(off) > float(allowed)
    for word in (str(folder), "scorer.onnx", "difference.npz", "--seed", "--resume", "onnxruntime", "torch"):
        assert word in message
    assert "bug" not in message
    assert {path.name for path in folder.iterdir()} == {
        "scorer.onnx",
        "explainer.onnx",
        "encoder.onnx",
        "decoder.onnx",
        "noise.npy",
        "difference.npz",
    }
    with np.load(folder / refusal.FILE_NAME, allow_pickle=False) as kept:
        answered, right, bound = (kept[f"{output}_{what}"] for what in ("onnxruntime", "float64", "allowed"))
        assert float(off) == pytest.approx(np.abs(answered - right).max(), rel=0.01)
        assert (np.abs(answered - right) > bound).any()
        session = onnxruntime.InferenceSession(folder / "scorer.onnx", providers=["CPUExecutionProvider"])
        given = {name: kept[name] for name in ("numeric", "noise")}
        np.testing.assert_array_equal(session.run([output], given)[0], answered)
    assert store.names(tmp_path) == []
    assert sorted(path.name for path in folder.parent.glob("[!.]*")) == []

    monkeypatch.setattr(graphs, "export", WITHOUT_FAULT)
    trained = pipeline.train(data, tmp_path, "mixed", SETTINGS, device="cpu", resume=True)
    assert (trained.version, store.versions(tmp_path, "mixed")) == (1, [1])


def test_a_folder_that_cannot_be_written_hides_no_difference(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    failed = ParityFailed("scorer.onnx: elbo is 3 off, allowed are 1", {"numeric": np.zeros((2, 3))})
    found = refusal.set_aside(failed, tmp_path / "models", "mixed", {})
    assert str(found).startswith("scorer.onnx: elbo is 3 off, allowed are 1. No version was written; ")
    assert "could not be kept" in str(found)
    assert found.evidence is failed.evidence


def test_what_was_refused_last_is_whole_or_not_there(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        folder = refused.keep(tmp_path, "mixed", {content.decode(): content})
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {content.decode(): content}
    with pytest.raises(FileNotFoundError):
        refused.keep(tmp_path, "mixed", {"no/such/folder": b""})
    assert [path.name for path in (tmp_path / "mixed").iterdir()] == [refused.FOLDER]
    assert [path.name for path in folder.iterdir()] == ["second"]
