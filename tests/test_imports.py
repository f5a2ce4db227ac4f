"""Who may import whom, by the source and by what is loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("bundle", "training", "service", "cli")
FORBIDDEN = {
    "bundle": {"torch", "onnxruntime", "fastapi", "pyarrow", "training", "service", "cli"},
    "training": {"fastapi", "starlette", "prometheus_client", "service", "cli"},
    "service": {"torch", "onnx", "onnxscript", "training", "cli"},
    "cli": set(),
}
ALLOWED_IN_BUNDLE = {"pydantic", "numpy", "PIL", "bundle"}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", OURS)
def test_sources_import_only_what_the_design_allows(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN[package], path


def test_bundle_needs_only_pydantic_numpy_and_pillow() -> None:
    for path in (ROOT / "bundle").rglob("*.py"):
        foreign = imported(path) - set(sys.stdlib_module_names)
        assert foreign <= ALLOWED_IN_BUNDLE, path


def test_cli_imports_training_and_service_only_inside_commands() -> None:
    for path in (ROOT / "cli").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert (module or "").split(".")[0] not in {"training", "service"}, path


@pytest.mark.parametrize(
    "statement",
    ["import service.front.app", "import service.process.server", "import service.files", "import surprisal.cli.main"],
)
def test_serving_side_loads_no_torch(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({{'torch', 'onnx', 'training'}} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_source_file_is_too_long() -> None:
    for package in (*OURS, "tests", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path
