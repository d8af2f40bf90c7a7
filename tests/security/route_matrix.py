"""Every route of the gateway, called by one tenant with the ids of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

from tests.security.crawl import Operation, operations, shape
from tests.security.route_samples import RouteRequest, RouteSamples
from tests.security.sample_values import ROUTE_SAMPLES
from tests.security.tenant_matrix import PASSING

STREAM_LINES: Final = 40
"""Lines read of a stream that may go on for ever."""
READ_SECONDS: Final = 1.0


def route_requests(
    client: httpx.Client, ids: Mapping[str, str]
) -> Iterator[tuple[Operation, RouteRequest]]:
    """Yield every operation of the document with its request. Raises: NoRow."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    samples = RouteSamples(document, ROUTE_SAMPLES)
    for operation in operations(client):
        yield operation, samples.request(operation.method, operation.path, ids)


def send(client: httpx.Client, operation: Operation, request: RouteRequest) -> tuple[int, str]:
    """Send a request; return the status and all that was told, of a stream the beginning."""
    arguments: dict[str, Any] = {"params": request.query}
    if request.files is not None:
        arguments["files"] = request.files
    elif request.body is not None:
        arguments["json"] = request.body
    if not operation.streams:
        status, text, headers = shape(client.request(request.method, request.path, **arguments))
        return status, f"{text}\n{sorted(headers)}"
    lines: list[str] = []
    status, is_text = 0, False
    try:
        with client.stream(
            request.method, request.path, timeout=httpx.Timeout(30, read=READ_SECONDS), **arguments
        ) as answer:
            status = answer.status_code
            for line in answer.iter_lines():
                # Text comes in as many pieces as the moment makes of it.
                if line.startswith("id:"):
                    continue
                if line.startswith("event:"):
                    is_text = line.endswith(".delta")
                if is_text:
                    continue
                lines.append(line)
                if len(lines) >= STREAM_LINES:
                    break
    except httpx.ReadTimeout:
        # Nothing more happens in it for now.
        pass
    return status, "\n".join(lines)


def comparable(told: tuple[int, str], *ids: str) -> tuple[int, str]:
    """Return an answer without the ids of the question, and without what passes."""
    status, text = told
    for one in ids:
        text = text.replace(one, "ID")
    return status, PASSING.sub("", text)
