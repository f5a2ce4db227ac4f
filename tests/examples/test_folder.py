"""The folder: its page names everything, each file says how it is run, and none is long."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
FILES = sorted(FOLDER.glob("*.py"))
MOST_LINES = 160


def test_the_page_names_every_example_and_nothing_else() -> None:
    page = (FOLDER / "README.md").read_text()
    named = set(re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \|", page, re.MULTILINE))
    there = {path.name for path in FILES} | {"alerts/payments.yml"}
    assert named == there | {f"notebooks/{path.name}" for path in (FOLDER / "notebooks").glob("*.ipynb")}
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run_and_is_short(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert re.search(rf"^    (\.venv/bin/)?python examples/{path.name}", ast.get_docstring(tree) or "", re.MULTILINE)
    assert len(text.splitlines()) <= MOST_LINES
    assert text.endswith('if __name__ == "__main__":\n    main(*sys.argv[1:])\n')
