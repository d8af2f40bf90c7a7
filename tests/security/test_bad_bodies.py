"""Bodies that no program of good will sends, at every route that the document lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.platform_process import Platform
from tests.security.crawl import UPLOADS, operations, problem_of
from tests.security.memory import resident_bytes

MIB: Final = 1024 * 1024
JSON: Final = {"content-type": "application/json"}
INSIDES: Final = re.compile(r'Traceback|File "|\.py\b|site-packages|asyncpg|pydantic|upb_|postgres')

BODIES: Final[dict[str, tuple[bytes, str]]] = {
    "cut": (b'{"a"', "not JSON"),
    "invalid UTF-8": (b'{"a":"\xff"}', "not UTF-8"),
    "NaN": (b'{"a":NaN}', "not JSON"),
    "out of range": (b'{"a":1e999}', "not JSON"),
    "lone surrogate": (b'{"a":"\\ud800"}', "not JSON"),
    "NUL": (b'{"a":"\\u0000"}', "NUL"),
    "twin": (b'{"a":1,"a":2}', "'a'"),
    "deep": (b'{"a":' * 65 + b"1" + b"}" * 65, "64"),
    "very deep": (b"[" * 200_000 + b"]" * 200_000, "64"),
    "many names": (b"{" + b",".join(b'"%d":1' % n for n in range(10_001)) + b"}", "10000"),
    "unknown field": (b'{"zzz":1}', ""),
    "no object": (b"[1]", "must be"),
}


@pytest.fixture
def deep() -> dict[str, Any]:
    """An object of 40 levels: fine as JSON, too deep for the messages inside."""
    outermost: dict[str, Any] = {}
    here = outermost
    for _ in range(39):
        here["a"] = {}
        here = here["a"]
    return outermost


@pytest.mark.promise("INPUT-01")
@pytest.mark.parametrize("kind", BODIES)
def test_no_route_takes_a_bad_body_and_each_says_why(client: httpx.Client, kind: str) -> None:
    body, said = BODIES[kind]
    for operation in operations(client):
        if operation.method == "GET" or operation.path == UPLOADS:
            continue
        # Of at most 32 characters, as some names are: it is the body that is wrong.
        path = operation.at(dict.fromkeys(operation.parameters, new_id()) | {"name": "a"})
        answer = client.request(operation.method, path, content=body, headers=JSON)
        assert answer.status_code in (400, 422), f"{operation}: {answer.text}"
        text, fields = problem_of(answer)
        assert said in text, operation
        assert fields or said, operation
        assert not INSIDES.search(answer.text), answer.text
    assert nothing_was_made(client)


@pytest.mark.promise("INPUT-01")
@pytest.mark.parametrize("counted", [True, False], ids=["with length", "without length"])
def test_no_route_takes_a_byte_more_than_its_limit(client: httpx.Client, counted: bool) -> None:
    for operation in operations(client):
        if operation.method == "GET" or operation.path == UPLOADS:
            continue
        limit = 4 * MIB if operation.path == "/v1/chat/completions" else MIB
        body = b'{"a":"%s"}' % (b"x" * (limit + 1 - 8))
        assert len(body) == limit + 1
        path = operation.at(dict.fromkeys(operation.parameters, new_id()))
        content: bytes | Iterator[bytes] = body if counted else iter([body[:9], body[9:]])
        answer = client.request(operation.method, path, content=content, headers=JSON)
        assert answer.status_code == 413, operation
        assert str(limit) in problem_of(answer)[0]


@pytest.mark.promise("INPUT-01")
def test_no_route_takes_another_form_or_a_compressed_body(client: httpx.Client) -> None:
    forms = [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        JSON | {"content-encoding": "gzip"},
    ]
    for operation in operations(client):
        if operation.method == "GET":
            continue
        path = operation.at(dict.fromkeys(operation.parameters, new_id()))
        for headers in forms:
            answer = client.request(operation.method, path, content=b"{}x", headers=headers)
            assert answer.status_code == 415, operation
            assert problem_of(answer)[0]


@pytest.mark.promise("INPUT-02")
@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/api/v1/chat", "metadata", {"message": "Hello"}),
        ("/api/v1/sessions", "metadata", {}),
        ("/api/v1/agents/execute", "metadata", {"agent": "chat", "message": "Hello"}),
        ("/api/v1/agents/execute", "input", {"agent": "chat", "message": "Hello"}),
        ("/api/v1/search", "metadata_filter", {"query": "Hello"}),
        ("/api/v1/tools/calculator/execute", "arguments", {}),
    ],
)
def test_an_object_too_deep_for_the_mesh_is_refused_by_name(
    client: httpx.Client, path: str, field: str, body: dict[str, Any], deep: dict[str, Any]
) -> None:
    answer = client.post(path, json={**body, field: deep})
    assert answer.status_code == 422, answer.text
    assert problem_of(answer) == (f"{field}: must not be nested deeper than 30", [field])
    assert nothing_was_made(client)


@pytest.mark.promise("INPUT-02")
def test_an_object_as_deep_as_allowed_comes_back_whole(
    client: httpx.Client, deep: dict[str, Any]
) -> None:
    allowed = deep
    for _ in range(10):
        allowed = allowed["a"]
    made = client.post("/api/v1/sessions", json={"metadata": allowed}).json()
    assert made["metadata"] == allowed
    assert client.get("/api/v1/sessions").json()["sessions"][0]["metadata"] == allowed


@pytest.mark.promise("INPUT-02")
def test_an_integer_of_any_length_reaches_a_tool_or_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/api/v1/tools/calculator/execute",
        content=b'{"arguments":{"expression":%d}}' % 10**30,
        headers=JSON,
    )
    assert answer.status_code == 422
    assert "expression" in problem_of(answer)[0]


@pytest.mark.promise("INPUT-03")
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/v1/sessions", {"agent": "no agent"}, "agent"),
        ("/api/v1/sessions", {"knowledge_base_ids": ["x"]}, "knowledge_base_ids.0"),
        ("/api/v1/sessions", {"metadata": {"a": "x" * 20_000}}, "metadata"),
        ("/api/v1/users", {"name": " "}, "name"),
        ("/api/v1/users", {"name": "a", "email": "nobody"}, "email"),
        (
            "/api/v1/agents/execute",
            {"agent": "chat", "message": "a", "session_id": "x"},
            "session_id",
        ),
        ("/api/v1/api-keys", {"permissions": ["everything"]}, "permissions"),
        ("/api/v1/knowledge-bases", {"name": "\n"}, "name"),
        ("/api/v1/chat", {"message": " \n"}, "message"),
        ("/api/v1/search", {"query": "\t"}, "query"),
    ],
)
def test_what_a_service_refuses_is_named_as_the_caller_wrote_it(
    client: httpx.Client, path: str, body: dict[str, Any], field: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (400, 422), answer.text
    text, fields = problem_of(answer)
    assert fields == [field]
    assert text.startswith(field)


@pytest.mark.promise("INPUT-03")
def test_a_page_token_that_is_none_is_named(client: httpx.Client) -> None:
    for operation in operations(client):
        if operation.method == "GET" and not operation.parameters and not operation.streams:
            parameters = {"page_token": "garbage"}
            if operation.path.endswith("/search"):
                parameters["q"] = "Hello"
            answer = client.get(operation.path, params=parameters)
            assert answer.status_code < 500, operation
            if answer.status_code >= 400:
                assert problem_of(answer)[1] == ["page_token"], operation


@pytest.mark.promise("INPUT-04")
def test_broken_requests_leave_the_process_as_it_was(
    platform: Platform, client: httpx.Client
) -> None:
    before = resident_bytes(platform)
    body = json.dumps({"message": "x" * (MIB - 100), "zzz": 1}).encode()
    for _ in range(40):
        assert client.post("/api/v1/chat", content=body, headers=JSON).status_code == 422
        assert client.post("/api/v1/chat", content=b"[" * MIB, headers=JSON).status_code == 422
    assert resident_bytes(platform) - before < 40 * MIB


def nothing_was_made(client: httpx.Client) -> bool:
    """Return whether a tenant is as empty as at first."""
    lists = {
        "/api/v1/sessions": "sessions",
        "/api/v1/tasks": "tasks",
        "/api/v1/knowledge-bases/default/documents": "documents",
    }
    return all(client.get(path).json()[name] == [] for path, name in lists.items())
