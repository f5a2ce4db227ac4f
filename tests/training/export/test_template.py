"""Graphs without weights, which are exported once for an architecture."""

import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from tests.training.export.test_parity import MIXED, ONE_KIND
from training import modality
from training.config import NetworkConfig
from training.detectors.neighbours import Neighbours
from training.export import architecture, graphs, template
from training.export.architecture import Undescribed
from training.network.networks import dense
from training.network.scores import Decoder, Encoder, ScoringNetwork

SCANS = ImageSchema(fields=(ImageField(name="image", height=8, width=8, channels=1),))

OUTPUTS = ("output",)
FREE = {"input": {0: torch.export.Dim("records")}}


class Named(nn.Module):
    """Of nobody's package, so that its code is not known."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.tanh(input)


def linear(seed: int, outputs: int = 2) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, outputs)


def given(width: int = 3) -> dict[str, Any]:
    return {"input": torch.ones(3, width)}


def exported(module: nn.Module) -> bytes:
    return template.template(module, given(), OUTPUTS, FREE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return template.folder()


def test_one_template_serves_all_weights_of_an_architecture(folder: Path) -> None:
    first, second = linear(1), linear(2)
    assert exported(first) == exported(second)
    assert len(list(folder.iterdir())) == 1
    records = np.arange(21, dtype=np.float32).reshape(7, 3)
    for module in (first, second):
        graph = template.filled(exported(module), architecture.weights(module))
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == ["input"]
        expected = module(torch.from_numpy(records)).detach().numpy()
        np.testing.assert_allclose(session.run(None, {"input": records})[0], expected, rtol=1e-5, atol=1e-6)


def near(points: int) -> Neighbours:
    return Neighbours(torch.randn(points, 3, generator=torch.Generator().manual_seed(points)))


def test_one_template_serves_any_number_of_points(folder: Path) -> None:
    """Which follows from the number of rows where these are few, so that it changes every night."""
    positions = {"positions": torch.randn(5, 3, generator=torch.Generator().manual_seed(0))}
    free = {"positions": FREE["input"]}
    for points in (9, 2, 400):
        module = near(points)
        graph = graphs.to_onnx(module, positions, OUTPUTS, free)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        found = session.run(None, {"positions": positions["positions"].numpy()})[0]
        np.testing.assert_allclose(found, module(**positions).numpy(), rtol=1e-5, atol=1e-5)
    assert len(list(folder.iterdir())) == 1
    # One point alone is an architecture of its own, and right.
    alone = onnxruntime.InferenceSession(graphs.to_onnx(near(1), positions, OUTPUTS, free))
    found = alone.run(None, {"positions": positions["positions"].numpy()})[0]
    np.testing.assert_allclose(found, near(1)(**positions).numpy(), rtol=1e-5, atol=1e-5)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: architecture.digest(linear(1, outputs=4), given(), OUTPUTS, FREE),
        lambda: architecture.digest(nn.Linear(3, 2, bias=False), given(), OUTPUTS, FREE),
        lambda: architecture.digest(linear(1).double(), given(), OUTPUTS, FREE),
        lambda: architecture.digest(linear(1), given(4), OUTPUTS, FREE),
        lambda: architecture.digest(linear(1), given(), ("value",), FREE),
        lambda: architecture.digest(linear(1), given(), OUTPUTS, {"input": {}}),
        lambda: architecture.digest(nn.Sequential(linear(1)), given(), OUTPUTS, FREE),
    ],
    ids=["width", "no bias", "dtype", "argument", "output", "dimension", "class"],
)
def test_another_architecture_is_another_template(other: Callable[[], str]) -> None:
    assert other() != architecture.digest(linear(1), given(), OUTPUTS, FREE)


def test_an_attribute_is_a_part_of_the_architecture() -> None:
    leaky = [architecture.digest(nn.LeakyReLU(slope), given(), OUTPUTS, FREE) for slope in (0.1, 0.2, 0.1)]
    assert leaky[0] == leaky[2] != leaky[1]


def test_what_may_depend_on_something_else_is_not_kept(folder: Path) -> None:
    holding = nn.Linear(3, 2)
    holding.anything = object()  # type: ignore[assignment]
    for module in (Named(), nn.Sequential(Named()), holding):
        with pytest.raises(Undescribed):
            architecture.digest(module, given(), OUTPUTS, FREE)
    assert exported(Named())
    assert not folder.exists()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"", lambda whole: whole[:40] + b"x" * 99])
def test_a_damaged_template_is_made_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    whole = exported(linear(1))
    (path,) = folder.iterdir()
    kept = path.read_bytes()
    path.write_bytes(damage(kept))
    assert exported(linear(1)) == whole
    assert path.read_bytes() == kept


def test_a_folder_that_cannot_be_made_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert exported(linear(1)) == exported(linear(2))


def test_of_those_that_begin_together_one_exports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0

    def export(*_: Any) -> bytes:
        nonlocal begun
        begun += 1
        time.sleep(0.2)  # long enough for the others to come to the same place
        return b"graph"

    monkeypatch.setattr(template, "_exported", export)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(exported, [linear(1)] * 4)) == [b"graph"] * 4
    assert begun == 1
    assert [path.suffix for path in folder.iterdir()] == [".onnx"], "no lock is left"


def test_a_system_without_locks_costs_time_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert exported(linear(1)) == exported(linear(2))
    assert len(list(folder.glob("*.onnx"))) == 1


def test_those_that_were_used_longest_ago_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MOST_KEPT", 2)
    for outputs in (1, 2, 3):
        exported(linear(1, outputs))
    exported(linear(1, 2))  # used once more
    exported(linear(1, 4))
    kept = {path.stem for path in folder.iterdir()}
    assert kept == {architecture.digest(linear(1, outputs), given(), OUTPUTS, FREE) for outputs in (2, 4)}


MADE_ELSEWHERE = """
import hashlib, torch
from training.export import template
from training.network.networks import dense
free = {"input": {0: torch.export.Dim("records")}}
graph = template.template(dense(3, [5, 4], 2, "silu"), {"input": torch.ones(3, 3)}, ("output",), free)
print(hashlib.sha256(graph).hexdigest(), *sorted(path.name for path in template.folder().iterdir()))
"""


def test_two_processes_export_the_same(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for seed in ("1", "2"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / seed))
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        said.append(subprocess.run([sys.executable, "-c", MADE_ELSEWHERE], capture_output=True, text=True, check=True))
    assert said[0].stdout == said[1].stdout != ""
    digest = architecture.digest(dense(3, [5, 4], 2, "silu"), given(), OUTPUTS, FREE)
    assert f"{digest}.onnx" in said[0].stdout


def test_neither_names_of_fields_nor_their_transforms_are_a_part_of_the_architecture() -> None:
    renamed = TableSchema(
        fields=tuple(field.model_copy(update={"name": f"x{place}"}) for place, field in enumerate(MIXED.fields))
    )
    plain = {"transform": "none", "offset": None}
    others = TableSchema(
        fields=tuple(
            field.model_copy(update=plain) if field.kind == "numeric" and field.offset is not None else field
            for field in MIXED.fields
        )
    )
    assert [field.transform for field in MIXED.numeric].count("log") == 1
    assert not any(field.offset for field in others.numeric)
    digests = set()
    for schema in (MIXED, renamed, others):
        kind = modality.of(schema)
        vae = kind.vae(NetworkConfig(latent_size=3))
        records, free = graphs.arguments(schema, vae.latent_size)
        for module in (ScoringNetwork(vae, None), Encoder(vae), Decoder(vae), kind.explainer(vae)):
            digests.add(architecture.digest(module, records, OUTPUTS, free))
    assert len(digests) == 4


@pytest.mark.parametrize("schema", [MIXED, *ONE_KIND.values(), SCANS], ids=["mixed", *ONE_KIND, "images"])
def test_all_of_a_models_graphs_can_be_kept(schema: RecordSchema) -> None:
    """And their architecture does not depend on the seed."""
    digests = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        kind = modality.of(schema)
        vae = kind.vae(NetworkConfig(latent_size=3))
        records, free = graphs.arguments(schema, vae.latent_size)
        modules = (ScoringNetwork(vae, None), Encoder(vae), Decoder(vae), kind.explainer(vae))
        digests.append([architecture.digest(module, records, OUTPUTS, free) for module in modules])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(digests[0])
