"""Spans as a request of OTLP, in its generated messages.

The SDK's encoder makes a message of each attribute of each span and another one of its value: 42 µs
a span, four fifths of what a recorded span costs. Most attributes are ones that spans before had,
and a message that is kept is copied by protobuf's own code: 10 µs. Only what `spans.Span` has is
written: no events, no trace state.

Source: the OpenTelemetry Protocol's trace.proto and common.proto 1.x, as in `opentelemetry-proto`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, Status, StatusCode

from meshwright_common.telemetry.spans import Attribute

MOST_KEPT: Final = 4096
"""Attributes whose messages are kept, in each process."""
MOST_KEPT_CHARACTERS: Final = 64
"""Longer values hardly come twice."""

_KNOWS_REMOTE: Final = 0x100
_REMOTE: Final = 0x200
"""Flags of a span: it is known whether its parent is of another process, and it is."""
_UNSET: Final = trace_pb2.Status()


class SpanEncoder:
    """Encodes spans of one resource and one scope, as those of a process are."""

    def __init__(self) -> None:
        self._empty: ExportTraceServiceRequest | None = None

    def request(self, spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        """Return a request with `spans`, of which there is one at least."""
        if self._empty is None:
            self._empty = _without_spans(spans[0])
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._empty)
        messages = request.resource_spans[0].scope_spans[0].spans
        for one in spans:
            # Made where it stays: to append it would copy it.
            _fill(messages.add(), one)
        return request


def _without_spans(span: ReadableSpan) -> ExportTraceServiceRequest:
    blank = ReadableSpan(
        "",
        context=INVALID_SPAN_CONTEXT,
        resource=span.resource,
        instrumentation_scope=span.instrumentation_scope,
    )
    request = encode_spans([blank])
    request.resource_spans[0].scope_spans[0].ClearField("spans")
    return request


def _fill(message: trace_pb2.Span, span: ReadableSpan) -> None:
    own, parent = span.get_span_context() or INVALID_SPAN_CONTEXT, span.parent
    message.trace_id = own.trace_id.to_bytes(16)
    message.span_id = own.span_id.to_bytes(8)
    message.name = _text(span.name)
    message.kind = cast(trace_pb2.Span.SpanKind.ValueType, span.kind.value + 1)
    message.start_time_unix_nano = span.start_time or 0
    message.end_time_unix_nano = span.end_time or 0
    if parent is not None:
        message.parent_span_id = parent.span_id.to_bytes(8)
    message.flags = _flags(parent)
    attributes = cast(Mapping[str, Attribute], span.attributes or {})
    message.attributes.extend([_attribute(name, value) for name, value in attributes.items()])
    if span.links:
        message.links.extend([_link(link) for link in span.links])
    message.status.CopyFrom(_status(span.status))


def _link(link: Link) -> trace_pb2.Span.Link:
    return trace_pb2.Span.Link(
        trace_id=link.context.trace_id.to_bytes(16),
        span_id=link.context.span_id.to_bytes(8),
        flags=_flags(link.context),
    )


def _flags(above: SpanContext | None) -> int:
    return _KNOWS_REMOTE | _REMOTE if above is not None and above.is_remote else _KNOWS_REMOTE


def _status(status: Status) -> trace_pb2.Status:
    if status.status_code is StatusCode.UNSET:
        return _UNSET
    code = cast(trace_pb2.Status.StatusCode.ValueType, status.status_code.value)
    return trace_pb2.Status(code=code, message=_text(status.description or ""))


def _attribute(name: str, value: Attribute) -> KeyValue:
    if isinstance(value, float) or (isinstance(value, str) and len(value) > MOST_KEPT_CHARACTERS):
        return KeyValue(key=name, value=_value(value))
    # A list is no key.
    return _kept_attribute(name, value if isinstance(value, str | int) else tuple(value))


# By their types, too: 1 is equal to True.
@lru_cache(maxsize=MOST_KEPT, typed=True)
def _kept_attribute(name: str, value: str | int | tuple[str, ...]) -> KeyValue:
    return KeyValue(key=name, value=_value(value))


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    # Before int, of which it is one.
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))


def _text(text: str) -> str:
    # Half of a pair has no bytes, and would cost the whole request.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
