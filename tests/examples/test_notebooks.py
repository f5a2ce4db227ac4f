"""Notebooks run from the first cell to the last, draw what they promise, and are stored without outputs.

`nbclient` and `nbformat` take three seconds to load, so the one process that runs these tests loads them, not every one
that collects.
"""

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(name: str, folder: Path, **environment: str) -> list[dict[str, Any]]:
    """What the cells of a notebook put out, each in a kernel and folders of its own."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    places = {"TMPDIR": str(folder), "IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, **places, **environment})
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def pictures(outputs: list[dict[str, Any]]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def texts(outputs: list[dict[str, Any]]) -> str:
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)


@pytest.mark.slow
def test_from_csv_to_a_served_model(tmp_path: Path) -> None:
    outputs = executed("from_csv_to_a_served_model", tmp_path)
    assert pictures(outputs) == 2
    said = texts(outputs)
    assert "the same as here: True" in said
    assert "conditional_excess" in said


def test_reading_explanations(server: str, tmp_path: Path) -> None:
    outputs = executed("reading_explanations", tmp_path, SURPRISAL_URL=server)
    assert pictures(outputs) == 3
    assert "of the cloned card" in texts(outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    """A stored output is a copy of numbers that no test keeps true, and makes every change unreadable."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert notebook.cells[0].cell_type == "markdown"
    assert {*notebook.metadata} <= {"kernelspec", "language_info"}
