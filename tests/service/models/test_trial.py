"""What the process that tries a version says of it, and what its end means."""

import signal
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import BundleError
from bundle.folder import store
from service.models import trial
from service.models.trial import LimitExceeded
from tests.conftest import NAME
from tests.service.models import hostile_bundles


@pytest.fixture(scope="module")
def bundle(models: Path) -> store.Bundle:
    return store.load(models, NAME, 1)


async def test_a_good_version_passes_step_by_step(models: Path, bundle: store.Bundle) -> None:
    steps: list[str] = []
    await trial.prove(models, bundle, 60.0, steps.append)
    assert steps == ["reading its files", "calibration.npz", "scorer.onnx", "explainer.onnx"]


async def test_files_that_were_swapped_since_they_were_read_do_not_pass(
    models: Path, bundle: store.Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    (root / NAME).mkdir(parents=True)
    store.write(root, NAME, bundle.manifest, bundle.files)
    hostile_bundles.with_graph(root / NAME / "1", lambda model: hostile_bundles.loops(model, trips=1))
    with pytest.raises(BundleError, match="changed while it was tried"):
        await trial.prove(root, bundle, 60.0, lambda step: None)


@pytest.mark.parametrize(
    ("said", "code", "kind", "words"),
    [
        ({"refused": "noise.npy: is no array"}, 0, BundleError, "noise.npy: is no array"),
        ({"memory": 2**30}, 0, LimitExceeded, "more than 1024 MiB"),
        ({"step": "scorer.onnx"}, -signal.SIGKILL, LimitExceeded, "more memory than there is"),
        ({"step": "scorer.onnx"}, -signal.SIGXCPU, LimitExceeded, "processor time at scorer.onnx"),
        ({"step": "scorer.onnx"}, -signal.SIGSEGV, LimitExceeded, "at scorer.onnx, with signal 11"),
        ({}, 1, LimitExceeded, "at its start, with exit code 1"),
        ({"digest": "0" * 64}, 0, BundleError, "changed while"),
    ],
)
def test_every_end_but_the_right_digest_is_a_refusal_with_its_reason(
    bundle: store.Bundle, said: dict[str, Any], code: int, kind: type[BundleError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        trial._judge(said, code, bundle)


def test_the_right_digest_passes(bundle: store.Bundle) -> None:
    trial._judge({"digest": bundle.manifest.digest}, 0, bundle)
