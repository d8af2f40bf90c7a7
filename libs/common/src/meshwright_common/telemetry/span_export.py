"""The way out of spans: OpenTelemetry's batches, to a collector (OTLP over HTTP) or into a file.

The SDK's tracer is left out on purpose: its spans cost 25-32 µs each and exist before anybody
knows whether they are wanted. What it does behind the tracer is used as it is: batches, a queue
that drops what is too much and never waits, export by a thread of its own.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from meshwright_common.ids import new_id
from meshwright_common.telemetry import genai, trace_context, trace_file
from meshwright_common.telemetry.spans import Kind, Span

SCOPE: Final = "meshwright"
SEND_SECONDS: Final = 2.0
"""So long a span waits for others, and so long the exporter waits for the collector."""
MOST_WAITING: Final = 4096
"""Spans that wait for the exporter; what comes beyond is dropped."""
MOST_TOGETHER: Final = 512
_KEPT: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}


def open_export(
    service: str, *, otlp_endpoint: str, file: Path | None
) -> tuple[Callable[[Span], None], Callable[[], None]]:
    """Return what takes spans that ended, and what sends the last of them and stops.

    At least one of `otlp_endpoint` (the base URL of a collector) and `file` is given.
    Raises: OSError when the file cannot be written.
    """
    exporters: list[SpanExporter] = []
    if file is not None:
        exporters.append(trace_file.FileExporter(file))
    if otlp_endpoint:
        # Imported only when asked for: it costs 30 ms and 15 MB.
        from meshwright_common.telemetry.otlp_sending import OtlpExporter  # noqa: PLC0415

        endpoint = otlp_endpoint.rstrip("/") + "/v1/traces"
        exporters.append(OtlpExporter(endpoint, timeout_seconds=SEND_SECONDS))
    return of_processors(service, [_batches(exporter) for exporter in exporters])


def of_processors(
    service: str, processors: list[SpanProcessor]
) -> tuple[Callable[[Span], None], Callable[[], None]]:
    """Return the same for processors of the SDK's kind."""
    resource = Resource.create(
        {
            "service.namespace": "meshwright",
            "service.name": service,
            "service.version": _version(),
            "service.instance.id": new_id(),
        }
    )
    scope = InstrumentationScope(SCOPE, _version(), genai.SCHEMA_URL)

    def emit(span: Span) -> None:
        readable = _readable(span, resource, scope)
        for processor in processors:
            processor.on_end(readable)

    def close() -> None:
        for processor in processors:
            processor.shutdown()

    return emit, close


def _batches(exporter: SpanExporter) -> BatchSpanProcessor:
    return BatchSpanProcessor(
        exporter,
        max_queue_size=MOST_WAITING,
        schedule_delay_millis=SEND_SECONDS * 1000,
        max_export_batch_size=MOST_TOGETHER,
    )


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
    if span.error:
        span.attributes.setdefault("error.type", span.error)
    return ReadableSpan(
        name=span.name,
        context=_context(span.traceparent, is_remote=False),
        parent=_context(span.parent, is_remote=True) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        links=[Link(_context(one, is_remote=True)) for one in span.links],
        kind=_KINDS[span.kind],
        status=status,
        start_time=span.began_ns,
        end_time=span.ended_ns,
        instrumentation_scope=scope,
    )


def _context(traceparent: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(trace_context.trace_id(traceparent), 16),
        int(trace_context.span_id(traceparent), 16),
        is_remote=is_remote,
        trace_flags=_KEPT,
    )


def _version() -> str:
    try:
        return version("meshwright-common")
    except PackageNotFoundError:
        return "0"
