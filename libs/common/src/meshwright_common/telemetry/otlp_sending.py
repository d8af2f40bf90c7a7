"""OTLP over HTTP: the SDK's exporter, whose settings and connection are used as they are, with an
encoder of ours before it (`otlp_request`).
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from meshwright_common.telemetry.otlp_request import SpanEncoder


class OtlpExporter(OTLPSpanExporter):
    """Sends spans to `endpoint`, a collector's URL for traces. OTEL_EXPORTER_OTLP_* hold."""

    def __init__(self, endpoint: str, *, timeout_seconds: float) -> None:
        super().__init__(endpoint=endpoint, timeout=timeout_seconds)
        self._encoder = SpanEncoder()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one request. Called by the thread of the batches."""
        if self._shutdown:
            return SpanExportResult.FAILURE
        # The client is the SDK's own part: what it does when a collector is away is not ours to
        # write again. Its encoding is asked for by no setting.
        sent = self._client.export(self._encoder.request(spans).SerializeToString())
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE
