"""The check of sentences finds what it is for, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

SCRIPT = ROOT / "scripts" / "prose.py"
LONG = " ".join(["Word"] * 36)


def check(*pages: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, pages)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_pages_are_in_plain_words() -> None:
    done = check()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"Short. {LONG}.", "36 words"),
        (f"- An item.\n- {LONG}", "36 words"),
        (f"| a | {LONG} |", "36 words"),
        ("What is wrong is answered.", '"What" is the subject'),
        ("## What a column is", '"What" is the subject'),
        ("It works. What\nfails is said.", '"What" is the subject'),
    ],
)
def test_a_sentence_that_breaks_a_rule_is_named_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{text}\n")
    done = check(page)
    assert done.returncode == 1
    assert f"{page}:3: " in done.stdout or f"{page}:4: " in done.stdout
    assert said in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        " ".join(["word"] * 35) + ".",
        f"```sh\n{LONG}\nWhat is code.\n```",
        f"    {LONG}",
        "What does it cost? It costs little.",
        f"It reads [a page]({'x' * 400}), `{LONG}` and more.",
        f"\\( {LONG} \\) is a formula.",
        "Whatever comes is scored.",
    ],
)
def test_code_formulas_links_and_questions_pass(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{text}\n")
    done = check(page)
    assert done.returncode == 0, done.stdout
