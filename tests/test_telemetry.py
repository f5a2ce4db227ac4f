"""Nothing of ours reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NAME

OPEN = """
import sys
import {module}
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1])
"""


@pytest.mark.parametrize("module", ["service.scorer", "training.export"])
def test_onnx_runtime_is_told_not_to_report(module: str, models: Path, tmp_path: Path) -> None:
    # It spares machines of continuous integration and test runs by itself.
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "GOMP_SPINCOUNT": "10000"}
    graph = models / NAME / "1" / "scorer.onnx"

    def written(code: str) -> list[str]:
        subprocess.run([sys.executable, "-c", code, str(graph)], check=True, env=environment, timeout=120)
        return [path.name for path in tmp_path.rglob("*")]

    assert written(OPEN.format(module=module)) == []
    if sys.platform == "linux":
        # It would, and that is where one sees it.
        assert ".ses" in written(OPEN.format(module="os"))
