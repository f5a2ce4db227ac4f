"""The audit of what is pinned: pip-audit as a program that answers what it would, since what it knows changes daily."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy import audit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CLEAN = {"name": "fastapi", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "orjson", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found"}


def replaced(folder: Path, script: str) -> str:
    """A PATH on which pip-audit is a shell script."""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str | None]:
    """What deploy/audit.py finds wrong where pip-audit does what a shell script says."""

    def run(script: str) -> str | None:
        monkeypatch.setenv("PATH", replaced(tmp_path, script))
        return audit.audit()

    return run


def answers(*packages: Mapping[str, object]) -> str:
    return f"cat <<'END'\n{json.dumps({'dependencies': packages})}\nEND"


def test_a_vulnerability_is_named(wrong: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]) -> None:
    found = wrong(answers(CLEAN, VULNERABLE, UNKNOWN) + "\nexit 1")
    assert found is not None
    assert "orjson 3.0: PYSEC-1, mended in 3.1" in found
    assert "audited 2 packages; not known there: torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("echo 'requests.exceptions.ConnectionError: no route' >&2; exit 1", "cannot be reached"),
        (answers(UNKNOWN), "knows none of the 1 packages"),
        (answers(CLEAN), "audited 1 packages"),
    ],
    ids=["unreachable", "nothing known", "clean"],
)
def test_it_says_what_it_looked_up(
    wrong: Callable[[str], str | None], capsys: pytest.CaptureFixture[str], script: str, word: str
) -> None:
    assert wrong(script) is None
    assert word in capsys.readouterr().out


def test_a_failure_of_the_audit_itself_is_not_passed_over(wrong: Callable[[str], str | None]) -> None:
    assert wrong("echo 'usage: no such option' >&2; exit 2") == "pip-audit failed: usage: no such option"


@pytest.mark.parametrize(("found", "code"), [(CLEAN, 0), (VULNERABLE, 1)], ids=["clean", "vulnerable"])
def test_the_script_ends_by_what_it_finds_and_its_bill_lists_every_package_of_the_image(
    tmp_path: Path, found: Mapping[str, object], code: int
) -> None:
    """Each with its digests."""
    path = replaced(tmp_path, answers(found))
    command = [sys.executable, "deploy/audit.py"]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, timeout=120, check=False)
    assert ended.returncode == code
    bill = json.loads((ROOT / "dist" / "surprisal.cdx.json").read_text())
    lines = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    pinned = {line.split(" ")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert {f"{each['name']}=={each['version']}" for each in bill["components"]} == pinned
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"])
