"""The collectors' files fit what the platform sends, and keep what they are there to keep."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

OBSERVABILITY: Final = Path(__file__).parents[2] / "infra" / "observability"
FILES: Final = ("collector.yaml", "collector-balancer.yaml")
SPAN: Final = (
    '{"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": '
    '{"stringValue": "chat"}}]}, "scopeSpans": [{"spans": [{"traceId": "%s", "spanId": "%s", '
    '"parentSpanId": "%s", "name": "%s", "kind": 2, "startTimeUnixNano": "1000000", '
    '"endTimeUnixNano": "3000000", "status": {"code": %d}}]}]}]}\n'
)


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "otel" / name).read_text())
    return content


@pytest.mark.parametrize("name", FILES)
def test_all_that_a_pipeline_names_is_defined_and_nothing_else(name: str) -> None:
    content = _read(name)
    pipeline = content["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert sorted(pipeline[part]) == sorted(content[part]), part
    assert content["service"]["extensions"] == list(content["extensions"])


@pytest.mark.parametrize("name", FILES)
def test_traces_are_taken_where_the_platform_sends_them_and_memory_is_bounded(name: str) -> None:
    content = _read(name)
    assert content["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert "memory_limiter" == content["service"]["pipelines"]["traces"]["processors"][0]


@pytest.mark.parametrize("name", FILES)
def test_its_own_metrics_are_where_it_listens(name: str) -> None:
    """By itself a collector shows them to its own host only; two on one host refuse to start."""
    (reader,) = _read(name)["service"]["telemetry"]["metrics"]["readers"]
    prometheus = reader["pull"]["exporter"]["prometheus"]
    receivers = _read(name)["receivers"]["otlp"]["protocols"].values()
    assert {f"{prometheus['host']}:{port}" for port in (4317, 4318)} >= {
        one["endpoint"] for one in receivers
    }


def test_errors_slow_traces_and_a_share_of_the_rest_are_kept() -> None:
    content = _read("collector.yaml")
    policies = {one["name"]: one for one in content["processors"]["tail_sampling"]["policies"]}
    assert {"status_code", "latency", "probabilistic", "string_attribute"} == {
        one["type"] for one in policies.values()
    }
    assert all(one["type"] in one for one in policies.values())
    assert ["ERROR"] == policies["errors"]["status_code"]["status_codes"]
    assert "meshwright.kept" == policies["kept-by-the-platform"]["string_attribute"]["key"]
    assert ["memory_limiter", "tail_sampling", "batch"] == content["service"]["pipelines"][
        "traces"
    ]["processors"]


def test_the_balancer_sends_a_trace_to_one_collector() -> None:
    exporter = _read("collector-balancer.yaml")["exporters"]["loadbalancing"]
    assert "traceID" == exporter["routing_key"]
    grpc = _read("collector.yaml")["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert grpc.endswith(f":{exporter['resolver']['dns']['port']}")


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_explained(name: str) -> None:
    text = (OBSERVABILITY / "otel" / name).read_text()
    named = set(re.findall(r"\$\{env:([A-Z_]+)", text)) - {"POD_IP"}
    assert all(re.search(rf"# .*\b{variable}\b", text) for variable in named)


def test_a_trace_of_a_file_is_shown_as_a_tree(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(SPAN % ("t", "b", "a", "inner", 2) + SPAN % ("t", "a", "x", "outer", 0))
    command = [sys.executable, str(OBSERVABILITY / "show_trace.py"), str(file)]
    shown = subprocess.run([*command, "t"], capture_output=True, text=True, check=True).stdout
    outer, inner = shown.splitlines()
    assert outer.startswith("outer")
    assert inner.startswith("  inner")
    assert inner.endswith("chat  FAILED")
    assert "2.0 ms" in inner
