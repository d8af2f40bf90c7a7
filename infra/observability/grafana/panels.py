"""Panels and dashboards as Grafana's JSON model has them (schema 39, Grafana 10.1 or later).

A dashboard is a list of rows, a row a title with panels that share its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SCHEMA: Final = 39
WIDTH: Final = 24
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
TAG: Final = "meshwright"
GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and how its series are called."""

    expr: str
    legend: str = ""
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `kind` is Grafana's: timeseries, stat, bargauge, table.

    From `warn` on it is yellow, from `bad` on red; `unit` is an id of Grafana's units.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    warn: float | None = None
    bad: float | None = None
    stacked: bool = False
    width: int = 8


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page. `variables` are label names by the metric they are looked up in."""

    uid: str
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: tuple[tuple[str, str], ...] = ()


def model(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as JSON values."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [_links()],
        "templating": {"list": [_source(), *(_variable(*one) for one in dashboard.variables)]},
        "panels": _panels(dashboard.rows),
    }


def _panels(rows: Sequence[tuple[str, Sequence[Panel]]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        x = 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            grid = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
            made.append(_panel(panel, len(made) + 1, grid))
            x += panel.width
        y += HEIGHT
    return made


def _panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    steps += [{"color": YELLOW, "value": panel.warn}] if panel.warn is not None else []
    steps += [{"color": RED, "value": panel.bad}] if panel.bad is not None else []
    marked = len(steps) > 1
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": True,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if marked else "off"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": grid,
        "targets": [_target(query, place, panel) for place, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "color": {"mode": "palette-classic" if custom else "thresholds"},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": _options(panel.kind),
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "table":
        return {"showHeader": True}
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {"reduceOptions": reduced, "orientation": "auto"}


def _target(query: Query, place: int, panel: Panel) -> dict[str, Any]:
    at_once = panel.kind != "timeseries"
    return {
        "refId": "ABCDEFGH"[place],
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "exemplar": query.exemplar,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _links() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Meshwright",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _source() -> dict[str, Any]:
    return {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "current": {},
        "refresh": 1,
    }


def _variable(label: str, metric: str) -> dict[str, Any]:
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({metric}, {label})", "refId": "variable"},
        "definition": f"label_values({metric}, {label})",
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }
