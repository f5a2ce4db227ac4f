"""Writes the bill of materials of the image, and asks whether a known vulnerability is in what constraints.txt pins.

`python deploy/audit.py` exits with 1 for a vulnerability. Where the database of advisories cannot be reached, or knows
none of the packages (a mirror without it), it says so and exits with 0.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BILL = ROOT / "dist" / "surprisal.cdx.json"
UNREACHABLE = ("ConnectionError", "ProxyError", "Timeout", "RetryError")


def write_bill() -> None:
    """What the image "service" installs, as CycloneDX: names, versions, digests."""
    BILL.parent.mkdir(exist_ok=True)
    command = ["cyclonedx-py", "requirements", "deploy/requirements.txt", "--pyproject", "pyproject.toml"]
    subprocess.run(
        [*command, "--output-reproducible", "-o", str(BILL)], cwd=ROOT, check=True, stderr=subprocess.DEVNULL
    )
    print(f"bill of materials: {BILL.relative_to(ROOT)}, {len(json.loads(BILL.read_text())['components'])} packages")


def audit() -> str | None:
    """Look up every pin; returns what is wrong, if anything is."""
    command = ["pip-audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", "--progress-spinner=off", "-f=json"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not asked.stdout:
        reason = asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else f"exit {asked.returncode}"
        if any(name in reason for name in UNREACHABLE):
            print(f"audit skipped, the database of advisories cannot be reached: {reason:.200}")
            return None
        return f"pip-audit failed: {reason}"
    packages = json.loads(asked.stdout)["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        print(f"audit skipped, the database of advisories knows none of the {len(packages)} packages")
        return None
    unknown = sorted(package["name"] for package in packages if "skip_reason" in package)
    print(f"audited {len(known)} packages" + (f"; not known there: {', '.join(unknown)}" if unknown else ""))
    found = [
        f"{package['name']} {package['version']}: {advisory['id']}, mended in "
        + (", ".join(advisory["fix_versions"]) or "-")
        for package in known
        for advisory in package["vulns"]
    ]
    return "\n".join(["known vulnerabilities; raise the pins:", *found]) if found else None


if __name__ == "__main__":
    write_bill()
    sys.exit(audit())
