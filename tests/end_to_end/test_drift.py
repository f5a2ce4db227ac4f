"""Two days of payments with their daily rhythm, counted by two workers, as Prometheus' rules see them."""

import contextlib
import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from bundle.folder import store
from bundle.record.fields import NumericField
from tests.conftest import NAME, running
from training.data import transactions

ROOT = Path(__file__).parents[2]
RULES = [str(ROOT / "deploy" / "prometheus" / "rules" / f"{name}.yml") for name in ("model", "alerts")]
SHIFTED = "amount"
DRIFT_ALERTS = ("SurprisalFieldDrift", "SurprisalScoreDrift", "SurprisalAnomalyRate")
RECORDS_A_DAY = 12_000
Clients = tuple[httpx.Client, httpx.Client]
Series = tuple[str, tuple[tuple[str, str], ...]]

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")


def half_hours(seed: int) -> list[list[dict[str, Any]]]:
    """A day of normal payments, each in its hour of the day."""
    table = transactions.simulate(RECORDS_A_DAY, seed=seed, fraud_share=0.0).drop_columns([transactions.LABEL])
    slots: list[list[dict[str, Any]]] = [[] for _ in range(48)]
    for index, payment in enumerate(table.to_pylist()):
        slots[2 * int(payment["hour"]) + index % 2].append(payment)
    return slots


def records_by_worker(folder: Path) -> list[float]:
    """How many records each worker that scored has counted."""
    counts = []
    for file in folder.rglob("counter_*.db"):
        samples = [each for metric in MultiProcessCollector.merge([str(file)], True) for each in metric.samples]
        counts.append(sum(each.value for each in samples if each.name == "surprisal_records_total"))
    return [count for count in counts if count]


def one_for_each_worker(url: str, folder: Path, connections: contextlib.ExitStack) -> Clients:
    """Two clients that keep a connection, each to another worker."""
    first: httpx.Client | None = None
    while True:
        # Those that are of no use are kept open, so that the other worker has fewer and takes the next.
        client = connections.enter_context(httpx.Client(base_url=url, timeout=30))
        client.post("/score", json={"records": [{"amount": 20.0}]}).raise_for_status()
        client.get("/metrics")
        if first is not None and len(records_by_worker(folder)) == 2:
            return first, client
        first = first or client


def scrape(clients: Clients, counted: dict[Series, list[float]]) -> None:
    """Add what Prometheus would see now; the worker that is asked first has shared its counts when the other is."""
    for client in clients:
        text = client.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("model") == NAME:
                counted[sample.name, tuple(sorted(sample.labels.items()))].append(sample.value)


def selector(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items()) + "}"


def as_the_rules_see(counted: dict[Series, list[float]]) -> dict[str, object]:
    """What promtool is to find in what was counted: only the field that shifts, and only on the second day."""
    model = {"model": NAME, "version": "1"}
    fields = sorted({dict(labels)["field"] for name, labels in counted if name == "surprisal_missing_total"})
    firing = selector("ALERTS", {"alertname": DRIFT_ALERTS[0], "alertstate": "firing", "severity": "ticket", **model})
    return {
        "interval": "30m",
        "input_series": [
            {"series": selector(name, dict(labels)), "values": " ".join(map(repr, values))}
            for (name, labels), values in counted.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{hour}h", "alertname": alert} for hour in range(1, 25) for alert in DRIFT_ALERTS
        ],
        "promql_expr_test": [
            {
                "expr": "surprisal:field_psi:1d > bool 0.2",
                "eval_time": f"{hour}h",
                "exp_samples": [
                    {
                        "labels": selector("", {**model, "field": name}),
                        "value": int(name == SHIFTED and hour == 48),
                    }
                    for name in fields
                ],
            }
            for hour in (24, 48)
        ]
        # Every hour its own.
        + [{"expr": "max(surprisal:field_psi:1h) > bool 2", "eval_time": "16h", "exp_samples": [{"value": 1}]}]
        + [
            {
                "expr": 'ALERTS{alertname="SurprisalFieldDrift", alertstate="firing"}',
                "eval_time": "48h",
                "exp_samples": [{"labels": firing[:-1] + f', field="{SHIFTED}"}}', "value": 1}],
            }
        ],
    }


def test_a_day_with_its_rhythm_is_no_drift_and_one_field_that_shifts_is(models: Path, tmp_path: Path) -> None:
    field = next(field for field in store.load(models, NAME, 1).manifest.record.fields if field.name == SHIFTED)
    assert isinstance(field, NumericField)
    folder = tmp_path / "metrics"
    folder.mkdir()
    counted: dict[Series, list[float]] = defaultdict(list)
    with (
        running(models, 2, environment={"SURPRISAL_METRICS_FOLDER": str(folder)}) as (_, url),
        contextlib.ExitStack() as connections,
    ):
        clients = one_for_each_worker(url, folder, connections)
        first = sum(records_by_worker(folder))
        scrape(clients, counted)
        for shift, day in ((0.0, half_hours(seed=11)), (field.restore(1.0) - field.restore(0.0), half_hours(seed=12))):
            for slot in day:
                for payments, client in zip((slot[::2], slot[1::2]), clients, strict=True):
                    if payments:
                        shifted = [{**payment, SHIFTED: payment[SHIFTED] + shift} for payment in payments]
                        client.post("/score", json={"records": shifted}).raise_for_status()
                scrape(clients, counted)
        by_worker = records_by_worker(folder)
    assert sum(by_worker) - first == 2 * RECORDS_A_DAY
    assert len(by_worker) == 2
    assert min(by_worker) > RECORDS_A_DAY / 2, "both workers score"

    file = tmp_path / "day.yml"
    order = ["surprisal-reference", "surprisal-model-1h", "surprisal-model-1d", "surprisal-alerts"]
    rules = {"rule_files": RULES, "evaluation_interval": "30m", "group_eval_order": order}
    file.write_text(json.dumps({**rules, "tests": [as_the_rules_see(counted)]}))
    result = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
