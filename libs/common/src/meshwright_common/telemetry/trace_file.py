"""Spans as lines of a file: for a user without a collector, and for a collector that reads files.

One line is one export as OTLP's JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/),
which the collector's `otlpjsonfile` receiver understands. Ids are hexadecimal there, unlike
protobuf's own JSON. Several processes may write to one file: a line is written at once.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""A file that has grown to this takes no more spans: it is no store."""
_IDS: Final = ("traceId", "spanId", "parentSpanId")


class FileExporter(SpanExporter):
    """Appends to `file`, which only its owner may read. Raises: OSError."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line. Called by the thread of the batches."""
        if os.fstat(self._descriptor).st_size > MAX_FILE_BYTES:
            return SpanExportResult.FAILURE
        try:
            os.write(self._descriptor, line_of(spans))
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        os.close(self._descriptor)


def line_of(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the line for `spans`, with its end."""
    content = json_format.MessageToDict(
        encode_spans(spans), use_integers_for_enums=True, always_print_fields_with_no_presence=False
    )
    for resource in content.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                _with_hexadecimal_ids(span)
                for link in span.get("links", ()):
                    _with_hexadecimal_ids(link)
    return orjson.dumps(content) + b"\n"


def _with_hexadecimal_ids(entry: dict[str, Any]) -> None:
    for name in _IDS:
        if name in entry:
            entry[name] = base64.b64decode(entry[name]).hex()
