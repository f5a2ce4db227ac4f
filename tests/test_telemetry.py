"""Nothing of ours reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NAME

OPEN = """
import os, sys
import {module}
import onnxruntime
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
onnxruntime.InferenceSession(sys.argv[1])
"""


@pytest.mark.parametrize("module", ["service.engine.graph", "training.export.graphs"])
def test_onnx_runtime_is_told_not_to_report(module: str, models: Path, tmp_path: Path) -> None:
    # It spares machines of continuous integration and test runs by itself.
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    graph = models / NAME / "1" / "scorer.onnx"
    code = OPEN.format(module=module)
    subprocess.run([sys.executable, "-c", code, str(graph)], check=True, env=environment, timeout=120)
    # What it keeps of the session that it reports, and of the machine.
    assert not [path for path in tmp_path.rglob("*") if path.name in (".ses", "Microsoft")]
