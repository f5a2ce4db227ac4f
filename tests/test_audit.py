"""The audit of what is pinned: pip-audit as a program that answers what it would, since what it knows changes daily."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CLEAN = {"name": "fastapi", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "orjson", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found"}


def audit(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/audit.py with a pip-audit that does what a shell script says."""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "deploy/audit.py"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=False
    )


def answers(*packages: Mapping[str, object]) -> str:
    return f"cat <<'END'\n{json.dumps({'dependencies': packages})}\nEND"


def test_a_vulnerability_is_named_and_fails(tmp_path: Path) -> None:
    result = audit(tmp_path, answers(CLEAN, VULNERABLE, UNKNOWN) + "\nexit 1")
    assert result.returncode == 1
    assert "orjson 3.0: PYSEC-1, mended in 3.1" in result.stderr
    assert "audited 2 packages; not known there: torch" in result.stdout


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("echo 'requests.exceptions.ConnectionError: no route' >&2; exit 1", "cannot be reached"),
        (answers(UNKNOWN), "knows none of the 1 packages"),
        (answers(CLEAN), "audited 1 packages"),
    ],
    ids=["unreachable", "nothing known", "clean"],
)
def test_it_says_what_it_looked_up(tmp_path: Path, script: str, word: str) -> None:
    result = audit(tmp_path, script)
    assert result.returncode == 0, result.stderr
    assert word in result.stdout


def test_a_failure_of_the_audit_itself_is_not_passed_over(tmp_path: Path) -> None:
    result = audit(tmp_path, "echo 'usage: no such option' >&2; exit 2")
    assert result.returncode == 1
    assert "pip-audit failed: usage: no such option" in result.stderr


def test_the_bill_of_materials_lists_every_package_of_the_image_with_its_digests(tmp_path: Path) -> None:
    assert audit(tmp_path, answers(CLEAN)).returncode == 0
    bill = json.loads((ROOT / "dist" / "surprisal.cdx.json").read_text())
    lines = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    pinned = {line.split(" ")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert {f"{each['name']}=={each['version']}" for each in bill["components"]} == pinned
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"])
