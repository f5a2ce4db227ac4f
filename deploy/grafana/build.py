"""Writes the dashboards beside this file: python deploy/grafana/build.py. The JSON is what Grafana reads."""

import json
from pathlib import Path
from typing import Any

from panels import (
    BAD,
    CALM,
    GOOD,
    WATCH,
    Strip,
    bars,
    choice,
    dashboard,
    heatmap,
    lines,
    pairs,
    row,
    stat,
    table,
    target,
)

FOLDER = Path(__file__).parent / "dashboards"
SERVICE, MODEL = "/d/surprisal-service", "/d/surprisal-model"
MODEL_OF = 'model="$model", version="$version"'
FULL_DAY = "surprisal:model:in_service1d"
TOO_EARLY = {"-1": "too early to say"}
DRIFT: list[tuple[float | None, str]] = [(None, CALM), (0, GOOD), (0.1, WATCH), (0.2, BAD)]
# The band of a binomial share: two standard deviations of the hour's records.
FALSE_ALARMS = f"max by (model, version) (surprisal_model_false_alarm_ratio{{{MODEL_OF}}})"
SPREAD = f"2 * sqrt({FALSE_ALARMS} * (1 - {FALSE_ALARMS}) / (surprisal:records:increase1h{{{MODEL_OF}}} > 0))"
UPPER, LOWER = "expected at most", "expected at least"
STAGES = target(
    "sum by (stage) (rate(surprisal_stage_duration_seconds_sum[$__rate_interval])) "
    "/ (sum by (stage) (rate(surprisal_stage_duration_seconds_count[$__rate_interval])) > 0)",
    "{{stage}}",
)


def home() -> dict[str, Any]:
    """Whether the service and the model are well, in five seconds: everything is green, or what is not says why."""
    return dashboard("surprisal-home", "Surprisal", [*_alerts(), *_service_now(), *_model_now(), *_lately()], [])


def _alerts() -> list[Strip]:
    """How many alerts fire, and which."""
    return [
        (1, [(24, row("Is anything wrong?"))]),
        (
            5,
            [
                (8, stat("Alerts that fire", 'count(ALERTS{alertstate="firing", alertname=~"Surprisal.*"}) or vector(0)',
                         "short", [(None, GOOD), (1, BAD)], "How many alerts of the rules fire now.", words={"0": "none"})),
                (16, bars("Which; those that are pending fire soon", [
                    target('sum by (alertname, alertstate, model, field) (ALERTS{alertstate="firing", alertname=~"Surprisal.*"}) or 0.5 * sum by (alertname, alertstate, model, field) (ALERTS{alertstate="pending", alertname=~"Surprisal.*"}) or on () label_replace(vector(0), "alertname", "none", "", "")', "{{alertname}} {{model}} {{field}} {{alertstate}}", instant=True),
                ], "short", [(None, GOOD), (0.5, WATCH), (1, BAD)], "The alerts that fire, and those whose condition has not held for long enough; docs/runbook.md has a heading for each.", most=1)),
            ],
        ),
    ]  # fmt: skip


def _service_now() -> list[Strip]:
    """Whether the service answers, fast enough, and everyone."""
    return [
        (1, [(24, row("The service"))]),
        (
            6,
            [
                (4, stat("Replicas that answer", 'sum(up{job="surprisal"}) / count(up{job="surprisal"})', "percentunit",
                         [(None, BAD), (1, GOOD)], "Share of the replicas that answer Prometheus.", link=SERVICE)),
                (5, stat("Requests, 5 min", "sum(rate(surprisal_http_requests_total[5m]))", "reqps", [(None, CALM)], "Requests a second.", link=SERVICE)),
                (5, stat("Failed, 5 min", "surprisal:http_errors:ratio5m or vector(0)", "percentunit", [(None, GOOD), (0.001, WATCH), (0.01, BAD)],
                         "Share of the requests of five minutes that were answered 5xx.", link=SERVICE)),
                (5, stat("Slowest of a hundred, 5 min", "surprisal:scoring_duration_seconds:p99_5m", "s", [(None, GOOD), (0.2, WATCH), (0.5, BAD)],
                         "99th percentile of scoring requests, over five minutes.", link=SERVICE)),
                (5, stat("Turned away, 5 min", "surprisal:http_rejections:ratio5m or vector(0)", "percentunit", [(None, GOOD), (0.001, WATCH), (0.01, BAD)],
                         "Share of the requests that found the queue full or missed their deadline.", link=SERVICE)),
            ],
        ),
    ]  # fmt: skip


def _model_now() -> list[Strip]:
    """How old the model is, and whether records are still like those that it learnt from."""
    return [
        (1, [(24, row("The model"))]),
        (
            6,
            [
                (4, stat("In service for", "bottomk(1, time() - min by (model, version) (surprisal_model_loaded_timestamp_seconds and on (model, version) surprisal_model_info == 1))", "s",
                         [(None, CALM)], "The version that came into service last, and for how long it has been.", legend="{{model}} version {{version}}", link=MODEL)),
                (4, stat("Field that drifts most, 1 day", f'topk(1, surprisal:field_psi:1d and on (model, version) {FULL_DAY}) or on () label_replace(vector(-1), "field", "a full day, 1 000 records", "", "")', "short", DRIFT,
                         "Population stability index of a day against the training rows: from 0.2 on a field is another one.", legend="{{field}}", words=TOO_EARLY, link=MODEL)),
                (4, stat("P-values from uniform, 1 day", f"max(surprisal:p_value_distance:1d and on (model, version) {FULL_DAY}) or vector(-1)", "short", DRIFT,
                         "Distance of a day's p-values from uniform: near 0 while records are like those of the calibration.", words=TOO_EARLY, link=MODEL)),
                (4, stat("Flagged, times as many as normal, 1 day", f"max((surprisal:anomalies:ratio1d and on (model, version) surprisal:records:increase1d >= 1000 and on (model, version) {FULL_DAY}) / on (model, version) max by (model, version) (surprisal_model_false_alarm_ratio)) or vector(-1)", "suffix: ×", [(None, CALM), (0, GOOD), (2, WATCH), (3, BAD)],
                         "Share of a day's records that were flagged, over the share of normal records that are.", words=TOO_EARLY, link=MODEL)),
                (4, stat("Age since training", "time() - min(surprisal_model_created_timestamp_seconds and on (model, version) surprisal_model_info == 1)", "s",
                         [(None, GOOD), (60 * 86400, WATCH), (90 * 86400, BAD)], "Since the oldest version in service was trained.", link=MODEL)),
                (4, stat("Versions refused", "sum(max by (model) (surprisal_model_refused))", "short", [(None, GOOD), (1, BAD)],
                         "Models whose newest version could not be loaded.", words={"0": "none"}, link=MODEL)),
            ],
        ),
    ]  # fmt: skip


def _lately() -> list[Strip]:
    """Requests, stages and flagged records over time."""
    return [
        (8, [
            (8, lines("Requests by status", [target("sum by (status) (rate(surprisal_http_requests_total[$__rate_interval]))", "{{status}}")],
                      "reqps", "Requests a second.", stacked=True)),
            (8, lines("Where the time goes", [STAGES], "s", "Mean by stage: bytes to tensors, waiting for a batch, the graph, scores to bytes.", stacked=True)),
            (8, lines("Flagged records", [target("sum by (model) (rate(surprisal_anomalies_total[$__rate_interval])) / (sum by (model) (rate(surprisal_records_total[$__rate_interval])) > 0)", "{{model}}"),
                                          target("max by (model) (surprisal_model_false_alarm_ratio)", "{{model}}: of normal records")],
                       "percentunit", "Share of the records that were flagged, and that of normal ones.")),
        ]),
    ]  # fmt: skip


def service() -> dict[str, Any]:
    """Traffic, latency, queue, memory."""
    p99 = 'histogram_quantile({q}, sum by (le) (rate(surprisal_http_request_duration_seconds_bucket{{route=~".*/(score|infer)"}}[$__rate_interval])))'
    return dashboard(
        "surprisal-service",
        "Service",
        [
            (8, [
                (12, lines("Requests by route", [target("sum by (route) (rate(surprisal_http_requests_total[$__rate_interval]))", "{{route}}")], "reqps", "Requests a second.", stacked=True)),
                (12, lines("Requests by status", [target("sum by (status) (rate(surprisal_http_requests_total[$__rate_interval]))", "{{status}}")], "reqps", "Requests a second.", stacked=True)),
            ]),
            (8, [
                (12, lines("How long scoring takes", [target(p99.format(q=q), name) for q, name in ((0.5, "median"), (0.9, "of ten the slowest"), (0.99, "of a hundred"))],
                           "s", "From a request's head to that of its answer.", limit=0.5)),
                (12, lines("Where the time goes", [STAGES],
                           "s", "Mean by stage: bytes to tensors, waiting for a batch, the graph, scores to bytes.", stacked=True)),
            ]),
            (8, [
                (8, lines("Records", [target("sum by (model, version) (rate(surprisal_records_total[$__rate_interval]))", "{{model}} {{version}}")], "short", "Records scored a second.", stacked=True)),
                (8, heatmap("Records in a batch", "sum by (le) (increase(surprisal_batch_records_bucket[$__rate_interval]))", "How large the batches are that waiting makes.", "short")),
                (8, lines("Records that wait", [target("sum by (model) (surprisal_queue_records)", "{{model}}")], "short", "In the queue; beyond SURPRISAL_MAX_QUEUE_RECORDS requests are turned away.")),
            ]),
            (8, [
                (8, lines("Refused, by reason", [target("sum by (reason) (rate(surprisal_rejected_total[$__rate_interval])) or on () label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", "{{reason}}")],
                          "reqps", "Requests and lines that were refused, by the error's slug.", stacked=True)),
                (8, lines("Workers", [target("sum by (instance) (surprisal_workers)", "{{instance}}: answer"), target("sum by (instance) (increase(surprisal_worker_restarts_total[1h]))", "{{instance}}: replaced within the hour")],
                          "short", "Processes that answer, and those that had to be replaced.")),
                (8, lines("Memory of the largest worker", [target("max by (instance) (surprisal_resident_memory_bytes)", "{{instance}}")], "bytes", "Resident memory.")),
            ]),
            (4, [
                (6, stat("Requests in progress", "sum(surprisal_requests_in_progress)", "short", [(None, CALM)], "Being answered now.")),
                (18, lines("Versions loaded and refused", [target("sum by (model, result) (increase(surprisal_reloads_total[1h]))", "{{model}}: {{result}}")], "short", "Versions loaded and refused within the hour.")),
            ]),
        ],
        [],
    )  # fmt: skip


def model() -> dict[str, Any]:
    """One version: what is normal to it, and whether that is what comes."""
    return dashboard(
        "surprisal-model",
        "Model",
        [
            (6, [
                (12, table("In service", "surprisal_model_info == 1", {"model": "model", "version": "version", "device": "device", "provider": "provider", "instance": "replica", "digest": "digest"}, "Versions that answer, and what they run on.")),
                (4, stat("Largest drift", f"max(surprisal:field_psi:1d{{{MODEL_OF}}})", "short", [(None, GOOD), (0.1, WATCH), (0.2, BAD)], "Population stability index over a day of the field that drifts most.")),
                (4, stat("P-values from uniform", f"surprisal:p_value_distance:1d{{{MODEL_OF}}}", "short", [(None, GOOD), (0.1, WATCH), (0.2, BAD)], "Over a day.")),
                (4, stat("Records of a day", f"surprisal:records:increase1d{{{MODEL_OF}}}", "short", [(None, CALM)], "Scored by this version.")),
            ]),
            (9, [
                (12, heatmap("P-values", f"sum by (le) (increase(surprisal_p_value_bucket{{{MODEL_OF}}}[$__rate_interval]))", "Evenly dark from bottom to top while records are like those of the calibration; dark at the bottom when strange ones come.", "short")),
                (12, lines("Flagged records, and what is expected", [
                    target(f"surprisal:anomalies:ratio1h{{{MODEL_OF}}}", "within the hour"),
                    target(f"surprisal:anomalies:ratio1d{{{MODEL_OF}}}", "within the day"),
                    target(f"3 * {FALSE_ALARMS}", "alert"),
                    target(f"{FALSE_ALARMS} + {SPREAD}", UPPER),
                    target(f"clamp_min({FALSE_ALARMS} - {SPREAD}, 0)", LOWER),
                ], "percentunit", "The band is where the hour's share lies 19 times in 20 while all records are normal. An alert comes where a day's share is over three times that of normal records.", band=(UPPER, LOWER))),
            ]),
            (10, [
                (12, bars("Drift of a day, by field", [target(f"sort_desc(surprisal:field_psi:1d{{{MODEL_OF}}})", "{{field}}", instant=True)], "short", [(None, GOOD), (0.1, WATCH), (0.2, BAD)], "Population stability index against the training rows: 0 is none, from 0.2 on the field is another one.", most=0.5)),
                (12, lines("Drift within the hour, by field", [target(f"surprisal:field_psi:1h{{{MODEL_OF}}}", "{{field}}")], "short", "Shown only: what has a daily rhythm drifts every hour.", limit=0.2)),
            ]),
            (9, [
                (8, bars("Missing values of a day", [target(f"sort_desc(surprisal:missing:ratio1d{{{MODEL_OF}}})", "{{field}}", instant=True)], "percentunit", [(None, CALM)], "Share of the records without the field.", most=1)),
                (8, bars("Unknown categories of a day", [target(f"sort_desc(surprisal:unknown_category:ratio1d{{{MODEL_OF}}}) or on () label_replace(vector(0), \"field\", \"no categories\", \"\", \"\")", "{{field}}", instant=True)], "percentunit", [(None, GOOD), (0.01, WATCH), (0.05, BAD)], "Share of the records with a category that the training rows did not have.", most=1)),
                (8, pairs("One field: a day against the training rows", "bin", "place", {
                    "now": f"sum by (bin) (surprisal:field_bin:share1d{{{MODEL_OF}, field=\"$field\"}})",
                    "in training": f"max by (bin, place) (surprisal_field_reference_ratio{{{MODEL_OF}, field=\"$field\"}})",
                }, "percentunit", "Share of the day's records in each bin, and of the training rows; a bin of numbers is named by its upper bound.")),
            ]),
            (8, [
                (8, lines("Flagged within the hour, by version", [target('surprisal:anomalies:ratio1h{model="$model"}', "version {{version}}")], "percentunit", "A shadow flags of the same records: compare it before it is promoted.")),
                (8, lines("Records, by version", [target('sum by (version) (rate(surprisal_records_total{model="$model"}[$__rate_interval]))', "version {{version}}")], "short", "Records scored a second; a shadow's are those that the version in service answers.")),
                (8, lines("Requests that a shadow left out", [target('sum by (version, reason) (rate(surprisal_shadow_left_out_total{model="$model"}[$__rate_interval])) or on () label_replace(vector(0), "reason", "none", "", "")', "{{version}} {{reason}}")], "reqps", "Where there was too little processor time, or the shadow could not score them.")),
            ]),
        ],
        [
            choice("model", "Model", "label_values(surprisal_model_info, model)"),
            choice("version", "Version", 'label_values(surprisal_model_info{model="$model"}, version)'),
            choice("field", "Field", f"label_values(surprisal_missing_total{{{MODEL_OF}}}, field)"),
        ],
    )  # fmt: skip


def main() -> None:
    """Write the three."""
    FOLDER.mkdir(exist_ok=True)
    for name, made in (("home", home()), ("service", service()), ("model", model())):
        (FOLDER / f"{name}.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
