"""Rules, dashboards and runbooks speak of metrics, labels and commands that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from typer.core import TyperGroup

from meshwright_cli.all_in_one import import_services
from meshwright_cli.main import app
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.telemetry import metric_names

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "infra" / "observability"
RULES: Final = sorted((FOLDER / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS: Final = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS: Final = ROOT / "docs" / "runbooks"

OF_THE_SCRAPE: Final = frozenset({"service", "instance", "job"})
"""Labels that Prometheus adds, from the targets."""
OF_EVERY_PROCESS: Final[Mapping[str, Set[str]]] = {
    "up": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_start_time_seconds": frozenset(),
}
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "info": ("_info",),
    "histogram": ("_bucket", "_count", "_sum"),
}
NAME: Final = re.compile(
    r"(?<![\w:$\"'])([a-z_]+:meshwright_\w+:\w+|meshwright_\w+|process_\w+|up)(?![\w:(\"])"
)
SELECTED: Final = re.compile(NAME.pattern + r"\{([^}]*)\}")
GROUPED: Final = re.compile(r"\b(?:by|on) \(([^)]*)\)")
SECTIONS: Final = ("What it means", "Look here", "Do this", "It is over when")


@cache
def exported() -> Mapping[str, Set[str]]:
    """Return the labels of each series that the code of all services can export, by name."""
    import_services(SERVICE_NAMES)
    found: dict[str, Set[str]] = dict(OF_EVERY_PROCESS)
    for collector in set(REGISTRY._names_to_collectors.values()):
        if not isinstance(collector, MetricWrapperBase):
            continue
        name, kind = collector._name, str(collector._type)
        labels = frozenset(collector._labelnames)
        if name == metric_names.BUILD:
            labels = frozenset({"process", "version"})
        for suffix in SUFFIXES[kind]:
            found[name + suffix] = labels | {"le"} if suffix == "_bucket" else labels
    return found


@cache
def recorded() -> Mapping[str, str]:
    """Return the expressions of the recording rules, by name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def rules() -> Iterator[dict[str, Any]]:
    """Yield all rules, in the order in which their files are read."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every panel with a query, and where it is."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            if panel["type"] != "row":
                yield f"{file.stem}: {panel['title']}", panel


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of rules, dashboards and runbooks, and where it is."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for where, panel in panels():
        for target in panel["targets"]:
            yield where, target["expr"]
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
                ).groups()  # type: ignore[union-attr]
                yield f"{file.stem}: ${label}", f"count by ({label}) ({metric})"
    for page in RUNBOOKS.glob("*.md"):
        for block in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                yield page.name, line


def labels_of(name: str) -> Set[str]:
    """Return the labels of a series. Raises: KeyError when neither code nor rule makes it."""
    if name in exported():
        return exported()[name] | OF_THE_SCRAPE
    made = recorded()[name]
    # The labels of a recorded series: those it is grouped by, however deep.
    grouped = {label.strip() for labels in GROUPED.findall(made) for label in labels.split(",")}
    return grouped.union(*(labels_of(one) for one in NAME.findall(made) if ":" in one)) - {""}


def unknown_in(expr: str) -> set[str]:
    """Return what an expression names that there is not: series, or labels of theirs."""
    known = [name for name in NAME.findall(expr) if name in exported() or name in recorded()]
    wrong = set(NAME.findall(expr)) - set(known)
    for name, selectors in SELECTED.findall(expr):
        if name in known:
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))
            wrong |= {f"{name}{{{label}}}" for label in asked - labels_of(name)}
    made = set(re.findall(r"label_replace\(.*?\"(\w+)\"", expr))
    there = made.union(*(labels_of(name) for name in known)) | OF_THE_SCRAPE
    grouped = {label.strip() for labels in GROUPED.findall(expr) for label in labels.split(",")}
    return wrong | {f"by ({label})" for label in grouped - there - {""}}


@pytest.mark.promise("OPS-METRIC-01")
def test_every_metric_and_label_of_rules_dashboards_and_runbooks_exists() -> None:
    """Issue 7, Must show: no panel on a metric that does not exist."""
    wrong = {where: found for where, expr in expressions() if (found := unknown_in(expr))}
    assert wrong == {}
    assert not any(not NAME.findall(expr) for _, expr in expressions())


@pytest.mark.promise("OPS-METRIC-01")
@pytest.mark.parametrize(
    ("expr", "missing"),
    [
        ("sum(meshwright_rpc_server_running_total)", "meshwright_rpc_server_running_total"),
        ("rate(meshwright_turn_ends[5m])", "meshwright_turn_ends"),
        ('meshwright_turn_ends_total{end="x"}', "meshwright_turn_ends_total{end}"),
        ("sum by (tenant) (meshwright_turn_ends_total)", "by (tenant)"),
        ("slo:meshwright_nothing:ratio", "slo:meshwright_nothing:ratio"),
    ],
)
def test_a_metric_or_label_that_does_not_exist_is_found(expr: str, missing: str) -> None:
    """The test above would see it."""
    assert unknown_in(expr) == {missing}


@pytest.mark.promise("OPS-METRIC-02")
def test_every_metric_has_bounded_labels_that_are_not_of_the_scrape() -> None:
    """No label names a tenant, a user or an id; none hides one of Prometheus's own."""
    unbounded = {"tenant", "tenant_id", "user", "user_id", "subject", "session_id", "task_id"}
    for name, labels in exported().items():
        if name.startswith("meshwright_"):
            assert not labels & unbounded, name
            assert not labels & OF_THE_SCRAPE, name


def test_every_name_is_used_and_stands_in_metric_names_alone() -> None:
    names = {value for name, value in vars(metric_names).items() if name.isupper()}
    bases = {
        name.removesuffix(suffix)
        for name in exported()
        for suffix in ("_total", "_bucket", "_count", "_sum", "_info", "")
    }
    assert names <= bases
    for name in exported():
        if name.startswith("meshwright_"):
            assert any(name == one or name.startswith(f"{one}_") for one in names), name


@pytest.mark.promise("OPS-METRIC-03")
def test_every_alert_is_tried_and_has_a_runbook_that_says_what_to_do() -> None:
    """Issue 7, build 5: each alert with a runbook; fires, and does not fire without a reason."""
    cases = yaml.safe_load((FOLDER / "prometheus" / "tests" / "alerts.yml").read_text())["tests"]
    tried = {
        (one["alertname"], bool(one["exp_alerts"]))
        for case in cases
        for one in case["alert_rule_test"]
    }
    pages = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md")}
    named = {"README"}
    for rule in rules():
        if "alert" not in rule:
            continue
        name = rule["alert"]
        assert {(name, True), (name, False)} <= tried, name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name
        page = Path(rule["annotations"]["runbook_url"])
        assert page.parent == Path("docs/runbooks"), name
        named.add(page.stem)
        assert f"`{name}` ({rule['labels']['severity']})" in pages[page.stem], name
        for section in SECTIONS:
            assert f"\n## {section}\n" in pages[page.stem], f"{page}: {section}"
        assert f"[{page.stem}]" in pages["README"], page
    assert named <= set(pages)


@pytest.mark.promise("OPS-METRIC-03")
def test_every_command_of_a_runbook_exists() -> None:
    """Nobody is woken to find out that a command has another name."""
    command = typer.main.get_command(app)
    tried = 0
    for page in RUNBOOKS.glob("*.md"):
        for line in re.findall(r"(?:^|`|-- )meshwright ([a-z][^`\n]*)", page.read_text(), re.M):
            found: Any = command
            for word in line.split():
                if not isinstance(found, TyperGroup):
                    break
                found = found.get_command(typer.Context(found), word)
                assert found is not None, f"{page.name}: meshwright {line}"
            assert not isinstance(found, TyperGroup), f"{page.name}: meshwright {line}"
            tried += 1
    assert tried > 20


def test_dashboards_have_what_grafana_needs() -> None:
    """Ids, places without overlap, a data source, units and descriptions."""
    uids = set()
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        uids.add(board["uid"])
        assert board["title"]
        assert board["schemaVersion"] >= 36
        assert board["links"][0]["tags"] == board["tags"]
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24, panel["title"]
            assert not cells & taken, panel["title"]
            taken |= cells
            if panel["type"] == "row":
                continue
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["datasource"]["uid"] == "${source}"
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len(uids) == len(DASHBOARDS) == 7
