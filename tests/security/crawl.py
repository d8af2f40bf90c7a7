"""The API as its OpenAPI document lists it: what a crawler would try."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
UPLOADS: Final = "/api/v1/knowledge-bases/{knowledge_base_id}/documents"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    reads: bool
    """Whether it takes a JSON body."""
    streams: bool
    """Whether it answers with a stream only, which may go on for ever."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path."""
        return tuple(_PARAMETER.findall(self.path))

    def at(self, values: Mapping[str, str]) -> str:
        """Return the path with its parameters filled in."""
        return _PARAMETER.sub(lambda found: values[found[1]], self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(client: httpx.Client) -> list[Operation]:
    """Return every operation that needs a key."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    return [
        Operation(
            method.upper(),
            path,
            reads="application/json" in _content(operation.get("requestBody", {})),
            streams=set(_content(operation["responses"].get("200", {}))) == {"text/event-stream"},
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith(("/api/", "/v1/"))
    ]


def _content(body: Mapping[str, Any]) -> Mapping[str, object]:
    content: Mapping[str, object] = body.get("content", {})
    return content


def shape(answer: httpx.Response, *ids: str) -> tuple[int, str, dict[str, str]]:
    """Return all that an answer tells, but for the ids of the question and of the request."""
    text = answer.text
    for identifier in ids:
        text = text.replace(identifier, "ID")
    request_id = answer.headers["x-request-id"]
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in {"date", "x-request-id", "traceresponse", "content-length"}
    }
    return answer.status_code, text.replace(request_id, "REQUEST"), headers


def problem_of(answer: httpx.Response) -> tuple[str, list[str]]:
    """Return the text and the fields of a refusal, in the shape of its family of routes."""
    content = answer.json()
    if answer.request.url.path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/json"
        assert content.keys() == {"error"}
        error = content["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error["message"], [error["param"]] if error["param"] else []
    assert answer.headers["content-type"] == "application/problem+json"
    assert content["status"] == answer.status_code
    assert content["request_id"] == answer.headers["x-request-id"]
    return content["detail"], [error["field"] for error in content["errors"]]
