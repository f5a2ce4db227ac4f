"""Alerts of one's own: metrics and labels that there are, and what fires when."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import metric_table

FOLDER = Path(__file__).parents[2] / "examples" / "alerts"
RULES, TESTS = FOLDER / "payments.yml", FOLDER / "payments.test.yml"
SHADOW = "surprisal_model_shadow"
SELECTOR = re.compile(r"\b(surprisal_\w+)(?:\{([^}]*)\})?")


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels))) for name, labels in SELECTOR.findall(expression)]


def test_every_rule_asks_for_what_the_service_exposes(server: str) -> None:
    families = text_string_to_metric_families(httpx.get(f"{server}/metrics").text)
    exposed: dict[str, list[dict[str, str]]] = {}
    for sample in (sample for family in families for sample in family.samples):
        exposed.setdefault(sample.name, []).append(sample.labels)
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) == 4
    for rule in rules:
        asked = selectors(rule["expr"])
        assert asked, rule["alert"]
        for name, labels in asked:
            if name == SHADOW:  # there is none before a version is tried out
                assert name in {row.exposed for row in metric_table.EVERY}
            else:
                assert any(labels.items() <= each.items() for each in exposed[name]), f"{rule['alert']}: {name}{labels}"


def test_a_metric_that_is_not_there_would_be_found() -> None:
    assert selectors('sum(surprisal_nothing_total{model="m", field="f"}) > surprisal_other') == [
        ("surprisal_nothing_total", {"model": "m", "field": "f"}),
        ("surprisal_other", {}),
    ]


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(alerts)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(alerts)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=["check", "test"])
def test_prometheus_takes_them_and_they_fire_when_they_should(command: tuple[str, ...]) -> None:
    result = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
