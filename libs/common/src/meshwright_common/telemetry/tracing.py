"""Spans. Nothing is made, and next to nothing is paid, until an exporter is configured."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

Attribute = str | bool | int | float

_NAME: Final = "meshwright"
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class _State:
    """Whether an exporter is there. One per process, as OpenTelemetry's provider is."""

    enabled = False


def configure(service: str, *, otlp_endpoint: str, sample_ratio: float) -> None:
    """Export spans to `otlp_endpoint` (OTLP over HTTP); with an empty one, make no spans at all."""
    if not otlp_endpoint:
        return
    # Imported only when asked for: the exporter costs 30 ms and 15 MB.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
    )
    endpoint = otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    _State.enabled = True


def shutdown() -> None:
    """Send what is still held back. Blocks for a few seconds at most."""
    if _State.enabled:
        stop = getattr(trace.get_tracer_provider(), "shutdown", None)
        if stop is not None:
            stop()
        _State.enabled = False


@contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[Span]:
    """Measure the block as a child of the current span. An error in it marks the span.

    At most one beside the server's own span per call, and never one per message. Attributes hold
    no user text, no prompts, no secrets.
    """
    if not _State.enabled:
        yield trace.INVALID_SPAN
        return
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(name, attributes=attributes) as current:
        yield current


def start_server_span(method: str, traceparent: str) -> Span:
    """Start the span of a served call and make it current for the rest of this task.

    `traceparent` is the caller's; the span starts a trace of its own when that is no good.
    Whoever serves the call ends the span.
    """
    if not _State.enabled:
        return trace.INVALID_SPAN
    parent = _remote_parent(traceparent)
    started = trace.get_tracer(_NAME).start_span(
        method.removeprefix("/"),
        context=None if parent is None else trace.set_span_in_context(parent),
        kind=SpanKind.SERVER,
    )
    # Never detached: the task ends with the call, and a stream may be closed by another task.
    otel_context.attach(trace.set_span_in_context(started))
    return started


def is_enabled() -> bool:
    """Return whether spans are made at all."""
    return _State.enabled


def current_traceparent() -> str:
    """Return the trace parent of the current span for the next hop; empty without a span."""
    if not _State.enabled:
        return ""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return ""
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"


def is_traceparent(text: str) -> bool:
    """Return whether `text` is a trace parent of W3C Trace Context, version 00."""
    match = _TRACEPARENT.fullmatch(text)
    return match is not None and match[1].strip("0") != "" and match[2].strip("0") != ""


def _remote_parent(traceparent: str) -> NonRecordingSpan | None:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    if not trace_id or not span_id:
        return None
    return NonRecordingSpan(
        SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    )
