"""The encoder of spans says what the SDK's says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from meshwright_common.telemetry.otlp_request import SpanEncoder
from meshwright_common.telemetry.span_export import of_processors
from meshwright_common.telemetry.spans import Attribute, Kind, Span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OWN = "00-0af7651916cd43dd8448eb211c80319c-00000000000000a1-01"
VALUES: Mapping[str, Attribute] = {
    "text": "as it is",
    "none": "",
    "long": "ü" * 300,
    "true": True,
    "false": False,
    "one": 1,
    "one as a float": 1.0,
    "negative": -3,
    "large": 2**62,
    "small": -(2**63),
    "float": -0.25,
    "texts": ("stop", "length"),
    "no texts": (),
}


class _Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _spans(attributes: Mapping[str, Attribute]) -> Sequence[ReadableSpan]:
    kept = _Kept()
    emit, _ = of_processors("chat", [kept])
    for kind in Kind:
        for parent, error in (("", ""), (PARENT, "INTERNAL")):
            span = Span("chat gpt-5", kind, OWN, parent, sampled=True, finish=emit)
            span.attributes.update(attributes)
            span.links = (PARENT,) if error else ()
            span.error = error
            span.end()
    return kept.spans


@pytest.mark.parametrize("name", [None, *VALUES])
def test_bytes_mean_what_those_of_the_sdk_mean(name: str | None) -> None:
    values = {} if name is None else {name: VALUES[name]}
    spans = _spans(values)
    encoder = SpanEncoder()
    for _ in range(2):
        # The second time from what was kept of the first.
        assert encoder.request(spans) == encode_spans(spans)


def test_half_of_a_pair_costs_its_letter_alone() -> None:
    request = SpanEncoder().request(_spans({"a": "x\ud800"}))
    (attribute, *_) = request.resource_spans[0].scope_spans[0].spans[0].attributes
    assert "x?" == attribute.value.string_value


def test_values_that_are_equal_and_of_other_types_stay_apart() -> None:
    spans = [*_spans({"a": True}), *_spans({"a": 1}), *_spans({"a": 1.0})]
    request = SpanEncoder().request(spans)
    found = {
        span.attributes[0].value.WhichOneof("value")
        for span in request.resource_spans[0].scope_spans[0].spans
    }
    assert {"bool_value", "int_value", "double_value"} == found
