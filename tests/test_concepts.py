"""The pages of concepts name code, tests and pictures that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "concepts"
PAGES = sorted(FOLDER.glob("*.md"))
NAMED = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
FORMULA = re.compile(r"^\\\[ .+? \\\]$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[[^\]]{20,}\]\(([^)]+)\)$")


@cache
def defined(path: Path) -> set[str]:
    """Functions, classes and, as CLASS.METHOD, methods of a file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    names.add(f"{node.name}.{each.name}")
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    names.add(f"{node.name}.{each.target.id}")
    return names


def by_page(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, name in NAMED.findall(text):
        assert (ROOT / path).is_file(), path
        assert name in defined(ROOT / path), f"{path} has no {name}"
    assert len(NAMED.findall(text)) == len(re.findall(r"`[^`\n]*\.py\b", text)), "each file with what it is named for"


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_each_formula_is_followed_by_its_code_and_its_test(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(FORMULA.findall(text)) == text.count("\\[") == text.count("\\]")
    for after in FORMULA.split(text)[1:]:
        files = [path for path, _ in NAMED.findall(after.partition("\n## ")[0])]
        assert any(not path.startswith("tests/") for path in files), f"no code: {after[:200]}"
        assert any(path.startswith("tests/") for path in files), f"no test: {after[:200]}"


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_a_page_ends_in_a_picture_of_a_study(page: Path) -> None:
    found = PICTURE.match(page.read_text(encoding="utf-8").rstrip().splitlines()[-1])
    assert found
    assert found[1].startswith("../../benchmarks/studies/pictures/")
    assert (page.parent / found[1]).resolve().is_file()


def test_the_map_leads_to_every_page_and_links_lead_somewhere() -> None:
    linked = re.findall(r"\]\((\w[\w-]*\.md)\)", (FOLDER / "index.md").read_text(encoding="utf-8"))
    assert sorted(linked) == [page.name for page in PAGES if page.stem != "index"]
    for page in PAGES:
        for target in re.findall(r"\]\((\w[\w-]*\.md)\)", page.read_text(encoding="utf-8")):
            assert (FOLDER / target).is_file(), f"{page.name}: {target}"
