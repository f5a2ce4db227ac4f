"""What is deployed names only what there is: settings, metrics, alerts, pins."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import AliasChoices

from service.front.app import Application
from service.settings import Settings
from service.telemetry import metric_table
from service.wire.problems import STATUS
from tests.conftest import in_process

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
OF_THE_IMAGE = {"host", "port", "ops_port", "models", "metrics_folder"}
STREAM, PROTOCOL = ROOT / "service" / "score" / "stream.py", ROOT / "service" / "process" / "protocol.py"
ALERT = re.compile(r"- alert: (\w+)")


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[setting].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[-1])  # the others come before it
    return f"SURPRISAL_{setting.upper()}"


def test_every_setting_stands_in_the_example_with_its_default_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^#(\w+)=(.*)$", text, re.MULTILINE))
    fields = {name: field for name, field in Settings.model_fields.items() if name not in OF_THE_IMAGE}
    assert set(shown) == set(map(variable, fields))
    for name, field in fields.items():
        assert f"# {field.description}\n#{variable(name)}=" in text
        monkeypatch.setenv(variable(name), shown[variable(name)])
        assert getattr(Settings(), name) == field.default
        monkeypatch.delenv(variable(name))


def test_the_image_installs_what_the_tests_ran_with() -> None:
    pin = re.compile(r"^([\w.\-]+)==([\w.]+)", re.MULTILINE)

    def pins(file: Path) -> dict[str, str]:
        return {name.lower().replace("_", "-"): version for name, version in pin.findall(file.read_text())}

    tested, installed = pins(ROOT / "constraints.txt"), pins(DEPLOY / "requirements.txt")
    assert {"fastapi", "onnxruntime", "pyarrow"} <= set(installed)
    assert "torch" not in installed
    assert {name: tested.get(name) for name in installed} == installed
    gpu = re.search(r"onnxruntime-gpu==(\S+)", (ROOT / "Dockerfile").read_text())
    assert gpu is not None
    assert gpu[1] == tested["onnxruntime"]


def test_dashboards_are_those_of_their_source(tmp_path: Path) -> None:
    before = {file: file.read_text() for file in DASHBOARDS}
    assert {file.name for file in DASHBOARDS} == {"home.json", "model.json", "service.json"}
    code = "import sys, pathlib, build; build.FOLDER = pathlib.Path(sys.argv[1]); build.main()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, cwd=DEPLOY / "grafana", timeout=60)
    assert {file: (tmp_path / file.name).read_text() for file in DASHBOARDS} == before


async def test_rules_and_dashboards_name_metrics_that_there_are(models: Path) -> None:
    async with in_process(Settings(models=models, expect_provider="CPUExecutionProvider")) as (other, _):
        text = (await other.get("/metrics")).text
    exposed = {family.name for family in text_string_to_metric_families(text)}
    suffix = re.compile(r"_(total|bucket|sum|count)$")
    recorded = set(re.findall(r"- record: (\S+)", "".join(file.read_text() for file in RULES)))
    for file in (*RULES, *DASHBOARDS):
        used = set(re.findall(r"\bsurprisal_\w+", file.read_text()))
        assert used
        missing = {name for name in used if suffix.sub("", name) not in exposed and name not in exposed}
        assert not missing, f"{file.name}: {missing}"
        assert set(re.findall(r"\bsurprisal:[\w:]+", file.read_text())) <= recorded, file.name


async def test_every_setting_metric_and_error_is_documented(models: Path) -> None:
    pages = (ROOT / "docs" / "reference" / f"{name}.md" for name in ("settings", "metrics", "errors"))
    text = "\n".join(page.read_text() for page in pages)
    for name, field in Settings.model_fields.items():
        assert re.search(rf"^\| `{variable(name)}` \| .*{re.escape(field.description or '')} \|$", text, re.MULTILINE)
    for row in metric_table.EVERY:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        assert f"\n| `{row.exposed}` | {row.type} | {labels} | {row.help} |\n" in text
    metrics = Application(Settings(models=models, expect_provider="CPUExecutionProvider")).metrics
    shown = {(family.name, family.type, family.documentation) for family in metrics.registry.collect()}
    assert shown == {(row.name, row.type, row.help) for row in metric_table.EVERY}
    slugs = {error.slug for error in STATUS} | set(re.findall(r'labels\("([a-z-]+)"\)\.inc', STREAM.read_text()))
    slugs |= set(re.findall(r'_refuse\(\d+, "([a-z-]+)"', PROTOCOL.read_text()))
    assert {"queue-full", "invalid-line", "client-not-reading", "head-too-large", "head-too-slow"} <= slugs
    assert slugs == set(re.findall(r"^\| `([a-z-]+)` \| \(?\d{3}", text, re.MULTILINE))


def test_every_alert_has_a_heading_in_the_runbook_and_a_test_that_fires_it() -> None:
    alerts = ALERT.findall((DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text())
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    tests = "".join(file.read_text() for file in (DEPLOY / "prometheus" / "tests").glob("*.yml"))
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == alerts
    for alert in alerts:
        assert (
            f"runbook_url: docs/runbook.md#{alert.lower()}\n"
            in (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text()
        )
        assert re.search(rf"alertname: {alert}\n +exp_alerts:", tests), alert


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_says_what_it_shows(file: Path) -> None:
    board = json.loads(file.read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert all(target["expr"] for target in panel["targets"])


def test_the_application_says_what_it_expects_only_if_it_was_told(models: Path) -> None:
    assert Application(Settings(models=models)).metrics.total("surprisal_expected_provider_info") == 0
