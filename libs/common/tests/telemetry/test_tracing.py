"""Traces: nothing without an exporter; with one, a span per call in the caller's trace."""

import subprocess
import sys

import pytest
from opentelemetry import trace

from meshwright_common.telemetry import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EXPORTING = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from meshwright_common.telemetry import tracing

tracing.configure("chat", otlp_endpoint="http://127.0.0.1:9", sample_ratio=1.0)
seen = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(seen))
server = tracing.start_server_span("/pkg.Service/Method", "{PARENT}")
assert tracing.current_traceparent().split("-")[1] == "{PARENT}".split("-")[1]
assert tracing.current_traceparent().split("-")[2] != "{PARENT}".split("-")[2]
try:
    with tracing.span("inner", count=3):
        raise ValueError
except ValueError:
    pass
server.end()
inner, outer = seen.get_finished_spans()
assert (inner.name, outer.name) == ("inner", "pkg.Service/Method")
assert inner.parent.span_id == outer.context.span_id
assert outer.parent.span_id == 0xB7AD6B7169203331 and outer.parent.is_remote
assert inner.attributes["count"] == 3 and not inner.status.is_ok
assert outer.resource.attributes["service.name"] == "chat"
print("good")
"""


def test_without_an_exporter_no_span_is_made() -> None:
    tracing.configure("chat", otlp_endpoint="", sample_ratio=1.0)
    assert not tracing.is_enabled()
    assert trace.INVALID_SPAN is tracing.start_server_span("/pkg.Service/Method", PARENT)
    with tracing.span("inner") as current:
        assert not current.is_recording()
    assert "" == tracing.current_traceparent()


def test_with_an_exporter_spans_join_the_callers_trace() -> None:
    """In a process of its own: OpenTelemetry's provider is set once in the life of a process."""
    done = subprocess.run(
        [sys.executable, "-c", EXPORTING], capture_output=True, text=True, timeout=25, check=False
    )
    assert "good\n" == done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (PARENT, True),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), False),
        (PARENT.replace("0af7", "0xf7"), False),
        ("", False),
        ("---", False),
        ("é" * 55, False),
    ],
)
def test_only_a_whole_trace_parent_is_one(text: str, good: bool) -> None:
    assert good == tracing.is_traceparent(text)
