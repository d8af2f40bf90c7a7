"""Traces of the tests' platforms, read from the file that all their processes write."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.asking import eventually
from tests.webhook_receiver import TOLD_NAME

TRACE_FILE: Final = "MESHWRIGHT_TELEMETRY__TRACE_FILE"


def tracing_environment(folder: Path) -> dict[str, str]:
    """Return settings by which only requests are traced that ask for it, into a file."""
    return {
        TRACE_FILE: str(folder / "traces.jsonl"),
        "MESHWRIGHT_TELEMETRY__TRACE_SAMPLE_RATIO": "0",
        "MESHWRIGHT_TELEMETRY__TRACE_TRUST_CALLERS": "true",
        "MESHWRIGHT_TELEMETRY__TRACE_SLOW_SECONDS": "0",
        "MESHWRIGHT_TELEMETRY__TRACE_HEADERS_TO": json.dumps([TOLD_NAME]),
    }


def new_trace(*, sampled: bool = True) -> str:
    """Return a traceparent as a browser's tracer would send it."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{'01' if sampled else '00'}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A span as it was exported. `service`: the process; `error`: OpenTelemetry says so."""

    name: str
    kind: int
    service: str
    instance: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    links: tuple[str, ...]
    error: bool


def spans_of(file: Path, trace_id: str) -> list[Recorded]:
    """Return the spans of a trace that were exported so far."""
    return [span for span in every_span(file) if span.trace_id == trace_id]


def every_span(file: Path) -> list[Recorded]:
    """Return all spans that were exported so far."""
    if not file.exists():
        return []
    # The last line may be on its way.
    whole = file.read_text().rpartition("\n")[0]
    return [
        _recorded(span, _values(resource["resource"]["attributes"]))
        for line in whole.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _recorded(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Recorded:
    return Recorded(
        name=span["name"],
        kind=span["kind"],
        service=resource["service.name"],
        instance=resource["service.instance.id"],
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        attributes=_values(span.get("attributes", ())),
        links=tuple(link["spanId"] for link in span.get("links", ())),
        error=span.get("status", {}).get("code") == 2,
    )


def _values(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


def awaited(
    file: Path, traceparent: str, condition: Callable[[list[Recorded]], bool]
) -> list[Recorded]:
    """Return the spans of a trace when they are as `condition` says."""
    found: list[Recorded] = []

    def are_there() -> bool:
        found[:] = spans_of(file, traceparent[3:35])
        return condition(found)

    try:
        eventually(are_there)
    except AssertionError:
        names = sorted(f"{one.service}: {one.name}" for one in found)
        raise AssertionError(f"the trace has only {names}") from None
    return found


def orphans(spans: Sequence[Recorded], root_parent: str) -> list[str]:
    """Return the names of spans whose parent is neither there nor the caller's own span."""
    known = {span.span_id for span in spans} | {root_parent[36:52]}
    return [span.name for span in spans if span.parent_id not in known]
