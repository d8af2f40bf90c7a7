"""Spans on their way out: OpenTelemetry's form, a file's lines, a collector's wire."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode

from meshwright_common.context import CallContext, bind
from meshwright_common.settings import SettingsError
from meshwright_common.telemetry import captured, genai, tracing
from meshwright_common.telemetry.sampling import Sampling
from meshwright_common.telemetry.settings import TelemetrySettings
from meshwright_common.telemetry.span_export import of_processors
from meshwright_common.telemetry.spans import Kind
from meshwright_common.telemetry.traces import configure_traces
from meshwright_common.testing.told_server import Served, serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    tracing.start(Sampling(1.0), *of_processors("chat", [SimpleSpanProcessor(memory)]))
    yield memory
    tracing.shutdown()
    captured.configure(enabled=False, most_bytes=64, masks=[])


def _make_one_span() -> None:
    with bind(CallContext(traceparent=PARENT)):
        made = tracing.serve("pkg.Service/Method")
        made.set("count", 3)
        made.links = (PARENT.replace("b7ad", "b8ad"),)
        made.fail("INTERNAL")
        made.end()


def test_a_span_leaves_as_one_of_opentelemetrys(exported: InMemorySpanExporter) -> None:
    _make_one_span()
    (span,) = exported.get_finished_spans()
    context, parent = span.context, span.parent
    assert context is not None
    assert parent is not None
    assert (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331) == (
        context.trace_id,
        parent.span_id,
    )
    assert (SpanKind.SERVER, StatusCode.ERROR) == (span.kind, span.status.status_code)
    assert {"count": 3, "error.type": "INTERNAL"} == dict(span.attributes or {})
    assert [0xB8AD6B7169203331] == [link.context.span_id for link in span.links]
    assert "chat" == span.resource.attributes["service.name"]
    scope = span.instrumentation_scope
    assert scope is not None
    assert genai.SCHEMA_URL == scope.schema_url


def test_names_of_the_conventions_are_those_of_their_version() -> None:
    """As the package of that version has them; those of ours begin with our name."""
    assert genai.SCHEMA_URL == list(Schemas)[-1].value
    theirs = {
        value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")
    }
    ours = {
        value
        for value in vars(genai).values()
        if isinstance(value, str) and re.fullmatch(r"gen_ai\.[a-z_.]+", value)
    }
    assert len(ours) > 15
    assert ours <= theirs


@pytest.mark.parametrize(
    ("subject", "name"),
    [("gpt-5", "chat gpt-5"), ("", "chat"), ("tell me a secret", "chat"), ("a" * 101, "chat")],
)
def test_only_names_become_part_of_a_spans_name(subject: str, name: str) -> None:
    assert name == genai.chat_name(subject)


def test_content_is_put_on_spans_only_when_wanted_cut_and_masked(
    exported: InMemorySpanExporter,
) -> None:
    for enabled in (False, True):
        captured.configure(enabled=enabled, most_bytes=64, masks=[r"\w+@\w+\.\w+"])
        with bind(CallContext(traceparent=PARENT)), tracing.span("chat") as span:
            assert enabled == captured.wanted(span)
            said = "mail a@b.de sk-abcdefghijklmnopqrstuvwx " + "ü" * 100
            captured.put(span, genai.INPUT_MESSAGES, said)
            captured.put(span, genai.OUTPUT_MESSAGES, [genai.text_message("user", "hi")])
    without, wanted = exported.get_finished_spans()
    assert {} == dict(without.attributes or {})
    attributes = wanted.attributes or {}
    text = str(attributes[genai.INPUT_MESSAGES])
    assert text.startswith("mail *** *** ü")
    assert 60 < len(text.encode()) <= 64
    assert (
        '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'
        == attributes[genai.OUTPUT_MESSAGES]
    )


def test_a_file_takes_spans_as_lines_that_a_collector_reads(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "traces.jsonl"
    configure_traces("chat", TelemetrySettings(trace_file=file))
    _make_one_span()
    tracing.shutdown()
    assert not tracing.is_enabled()

    assert 0o600 == file.stat().st_mode & 0o777
    (line,) = file.read_text().splitlines()
    (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert PARENT[3:35] == span["traceId"]
    assert PARENT[36:52] == span["parentSpanId"]
    assert re.fullmatch("[0-9a-f]{16}", span["links"][0]["spanId"])
    assert (Kind.SERVER + 1, 2) == (span["kind"], span["status"]["code"])


@pytest.mark.asyncio
async def test_a_collector_is_sent_spans_over_its_own_wire() -> None:
    bodies: list[bytes] = []

    async def behave(served: Served) -> None:
        bodies.append((await served.request()).partition(b"\r\n\r\n")[2])
        await served.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with serving(behave) as server:
        configure_traces("chat", TelemetrySettings(otlp_endpoint=server.url))
        _make_one_span()
        await asyncio.to_thread(tracing.shutdown)
    request = ExportTraceServiceRequest.FromString(bodies[0])
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert bytes.fromhex(PARENT[3:35]) == span.trace_id
    assert "pkg.Service/Method" == span.name


def test_the_last_spans_of_a_process_leave_with_it(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    program = (
        "from pathlib import Path\n"
        "from meshwright_common.telemetry import tracing\n"
        "from meshwright_common.telemetry.settings import TelemetrySettings\n"
        "from meshwright_common.telemetry.traces import configure_traces\n"
        f"configure_traces('chat', TelemetrySettings(trace_file=Path({str(file)!r})))\n"
        "tracing.serve('pkg.Service/Last').end()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=25)
    assert "pkg.Service/Last" in file.read_text()


def test_nothing_is_made_while_there_is_nowhere_to_put_it() -> None:
    configure_traces("chat", TelemetrySettings())
    assert not tracing.is_enabled()


def test_a_file_that_cannot_be_written_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    wrong = TelemetrySettings(trace_file=tmp_path / "a-file" / "traces.jsonl")
    with pytest.raises(SettingsError, match="MESHWRIGHT_TELEMETRY__TRACE_FILE: cannot write"):
        configure_traces("chat", wrong)
    assert not tracing.is_enabled()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("otlp_endpoint", "collector:4318", "must begin with http:// or https://"),
        ("trace_headers_to", ["http://x"], "'http://x' is no host name"),
        ("capture_masks", ["["], "'[' is no regular expression"),
        ("trace_sample_ratio", 2, "less than or equal to 1"),
        ("capture_max_bytes", 1, "greater than or equal to 64"),
    ],
)
def test_a_wrong_setting_is_told_by_what_is_wrong_with_it(
    name: str, value: object, told: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        TelemetrySettings.model_validate({name: value})
