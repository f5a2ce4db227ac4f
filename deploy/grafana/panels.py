"""Panels of Grafana as dictionaries of its own JSON, laid out in rows of 24 columns."""

from typing import Any

Panel = dict[str, Any]
Strip = tuple[int, list[tuple[int, Panel]]]
"""A height, and the panels of that height that stand side by side, each with its width."""

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
GOOD, WATCH, BAD, CALM = "green", "orange", "red", "blue"


def target(expr: str, legend: str = "", *, instant: bool = False, form: str = "time_series") -> dict[str, Any]:
    """One query; `refId` comes with the panel."""
    return {
        "datasource": DATASOURCE,
        "expr": expr,
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": form,
    }


def stat(
    title: str,
    expr: str,
    unit: str,
    steps: list[tuple[float | None, str]],
    text: str,
    *,
    legend: str = "",
    words: dict[str, str] | None = None,
    link: str | None = None,
) -> Panel:
    """One figure on a ground whose colour says whether it is well.

    Args:
        title: What it is.
        expr: An instant query.
        unit: Grafana's name of the unit.
        steps: From which value on which colour; the first from None.
        text: What it means, shown on hovering over the title.
        legend: Name of the figure where that matters.
        words: Shown in place of values.
        link: Address of the dashboard that says more.
    """
    mappings = []
    if words:
        options = {value: {"text": word, "index": index} for index, (value, word) in enumerate(words.items())}
        mappings = [{"type": "value", "options": options}]
    return {
        "type": "stat",
        "title": title,
        "description": text,
        "targets": [target(expr, legend, instant=True)],
        "links": [{"title": "more", "url": link}] if link else [],
        "options": {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "textMode": "value_and_name" if legend else "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        "fieldConfig": {"defaults": {**_field(unit, steps), "mappings": mappings}, "overrides": []},
    }


def lines(
    title: str,
    targets: list[dict[str, Any]],
    unit: str,
    text: str,
    *,
    stacked: bool = False,
    limit: float | None = None,
    band: tuple[str, str] | None = None,
) -> Panel:
    """Curves over time.

    Args:
        title: What they are.
        targets: Their queries.
        unit: Grafana's name of the unit.
        text: What it means.
        stacked: Whether one begins where the other ends.
        limit: Where an alert begins: a dashed line.
        band: Legends of the two curves, upper and lower, between which is filled.
    """
    overrides = []
    if band is not None:
        filled = [{"id": "custom.fillBelowTo", "value": band[1]}, {"id": "custom.fillOpacity", "value": 20}]
        for legend, properties in ((band[0], filled), (band[1], [])):
            thin = [
                {"id": "custom.lineWidth", "value": 0},
                {"id": "color", "value": {"mode": "fixed", "fixedColor": CALM}},
            ]
            overrides.append({"matcher": {"id": "byName", "options": legend}, "properties": [*thin, *properties]})
    custom = {
        "lineWidth": 2,
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    steps: list[tuple[float | None, str]] = [(None, "transparent"), *([] if limit is None else [(limit, BAD)])]
    return {
        "type": "timeseries",
        "title": title,
        "description": text,
        "targets": targets,
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "fieldConfig": {"defaults": {**_field(unit, steps), "min": 0, "custom": custom}, "overrides": overrides},
    }


def bars(
    title: str,
    targets: list[dict[str, Any]],
    unit: str,
    steps: list[tuple[float | None, str]],
    text: str,
    *,
    most: float | None = None,
) -> Panel:
    """A bar for each series of instant queries.

    Args:
        title: What they are.
        targets: Their queries.
        unit: Grafana's name of the unit.
        steps: From which value on which colour; the first from None.
        text: What it means.
        most: What a full bar stands for; by default the largest value.
    """
    full = {} if most is None else {"max": most}
    return {
        "type": "bargauge",
        "title": title,
        "description": text,
        "targets": targets,
        "options": {
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        "fieldConfig": {"defaults": {**_field(unit, steps), "min": 0, **full}, "overrides": []},
    }


def pairs(title: str, label: str, order: str, exprs: dict[str, str], unit: str, text: str) -> Panel:
    """Two or more bars side by side for each value of a label.

    Args:
        title: What they are.
        label: The label.
        order: Another label, of one of the queries, by which the values are sorted.
        exprs: Instant queries by the name that each one's bars get.
        unit: Grafana's name of the unit.
        text: What it means.
    """
    names = {f"Value #{chr(ord('A') + index)}": name for index, name in enumerate(exprs)}
    times = {f"Time {index + 1}": True for index in range(len(exprs))}
    return {
        "type": "barchart",
        "title": title,
        "description": text,
        "targets": [target(expr, instant=True, form="table") for expr in exprs.values()],
        "options": {
            "orientation": "horizontal",
            "xField": label,
            "showValue": "never",
            "stacking": "none",
            "groupWidth": 0.8,
            "barWidth": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "calcs": [], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "none"},
        },
        "transformations": [
            {"id": "joinByField", "options": {"byField": label, "mode": "outer"}},
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": order, "desc": False}]}},
            {
                "id": "organize",
                "options": {"excludeByName": {**times, order: True}, "indexByName": {}, "renameByName": names},
            },
        ],
        "fieldConfig": {"defaults": {**_field(unit, [(None, "transparent")]), "min": 0}, "overrides": []},
    }


def heatmap(title: str, expr: str, text: str, unit: str) -> Panel:
    """A histogram over time, from buckets."""
    return {
        "type": "heatmap",
        "title": title,
        "description": text,
        "targets": [target(expr, "{{le}}", form="heatmap")],
        "options": {
            "calculate": False,
            "color": {
                "mode": "scheme",
                "scheme": "Blues",
                "steps": 64,
                "exponent": 1,
                "reverse": False,
                "fill": "blue",
            },
            "cellGap": 1,
            "yAxis": {"axisPlacement": "left", "unit": unit},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"show": True, "yHistogram": True},
            "legend": {"show": True},
        },
        "fieldConfig": {
            "defaults": {"custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}},
            "overrides": [],
        },
    }


def table(title: str, expr: str, columns: dict[str, str], text: str) -> Panel:
    """Labels of series, a row each.

    Args:
        title: What they are.
        expr: An instant query.
        columns: Labels that are shown, in order, and their headings.
        text: What it means.
    """
    order = {name: index for index, name in enumerate(columns)}
    return {
        "type": "table",
        "title": title,
        "description": text,
        "targets": [target(expr, instant=True, form="table")],
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
            {"id": "organize", "options": {"excludeByName": {}, "indexByName": order, "renameByName": columns}},
        ],
        "fieldConfig": {"defaults": {}, "overrides": []},
    }


def row(title: str) -> Panel:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def dashboard(uid: str, title: str, strips: list[Strip], variables: list[dict[str, Any]]) -> Panel:
    """A whole dashboard.

    Args:
        uid: By which others link to it.
        title: Its name.
        strips: What stands on it, from top to bottom.
        variables: Its choices at the top.
    """
    panels: list[Panel] = []
    top = 0
    for height, members in strips:
        left = 0
        for width, panel in members:
            placed = {**panel, "id": len(panels) + 1, "gridPos": {"h": height, "w": width, "x": left, "y": top}}
            if panel["type"] != "row":
                placed["datasource"] = DATASOURCE
                placed["targets"] = [
                    {**each, "refId": chr(ord("A") + index)} for index, each in enumerate(panel["targets"])
                ]
            panels.append(placed)
            left += width
        top += height
    return {
        "uid": uid,
        "title": title,
        "tags": ["surprisal"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "Surprisal", "tags": ["surprisal"], "asDropdown": False, "keepTime": True}
        ],
        "templating": {"list": variables},
        "panels": panels,
    }


def choice(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable: one of the values of a label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "sort": 4,
    }


def _field(unit: str, steps: list[tuple[float | None, str]]) -> dict[str, Any]:
    return {
        "unit": unit,
        "color": {"mode": "thresholds" if steps[0][1] != "transparent" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]},
    }
