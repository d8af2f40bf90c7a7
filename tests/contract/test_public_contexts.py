"""Contexts of sessions through the public API of a running platform."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonpatch
import pytest

from meshwright_common.ids import new_id
from tests.asking import ask
from tests.platform_process import Platform
from tests.tenants import new_tenant


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


@pytest.fixture
def path(client: httpx.Client) -> str:
    """Where the context of a new session is."""
    session = client.post("/api/v1/sessions", json={}).json()
    return f"/api/v1/sessions/{session['session_id']}/context"


def put(client: httpx.Client, path: str, version: int, **data: Any) -> httpx.Response:
    """Write the version behind `version`."""
    return client.put(path, json={"data": data, "expected_version": version})


@pytest.mark.promise("CONTEXT-04")
def test_of_writers_of_one_version_one_wins_and_the_others_learn_which_is_current(
    client: httpx.Client, path: str
) -> None:
    assert client.get(path).json()["version"] == 0
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda by: put(client, path, 0, by=by), range(8)))
    [won] = [answer for answer in answers if answer.status_code == 200]
    lost = [answer.json() for answer in answers if answer.status_code != 200]
    assert {(one["status"], one["code"]) for one in lost} == {(409, "CONTEXT_VERSION_CONFLICT")}
    assert {one["metadata"]["current_version"] for one in lost} == {"1"}
    read = client.get(path)
    assert read.json() == won.json()
    assert read.headers["etag"] == won.headers["etag"] == '"1"'


def test_context_is_written_by_the_etag_that_was_read(client: httpx.Client, path: str) -> None:
    put(client, path, 0, a=1)
    etag = client.get(path).headers["etag"]
    written = client.put(path, json={"data": {"a": 2}}, headers={"if-match": etag})
    assert (written.status_code, written.json()["version"]) == (200, 2)
    again = client.put(path, json={"data": {"a": 3}}, headers={"if-match": etag})
    assert (again.status_code, again.json()["code"]) == (409, "CONTEXT_VERSION_CONFLICT")


@pytest.mark.parametrize(
    ("headers", "version", "field"),
    [
        ({}, None, "expected_version"),
        ({"if-match": "W/x"}, None, "If-Match"),
        ({"if-match": '"1"'}, 2, "If-Match"),
        ({}, -1, "expected_version"),
    ],
)
def test_write_that_does_not_say_which_version_was_read_names_the_field(
    client: httpx.Client, path: str, headers: dict[str, str], version: int | None, field: str
) -> None:
    body: dict[str, Any] = {"data": {}}
    body |= {} if version is None else {"expected_version": version}
    answer = client.put(path, json=body, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.promise("CONTEXT-05")
def test_version_is_restored_as_it_was_once_per_key(client: httpx.Client, path: str) -> None:
    put(client, path, 0, plan=["read", "write"])
    put(client, path, 1, plan=[])
    listed = client.get(f"{path}/snapshots").json()["snapshots"]
    assert [one["version"] for one in listed] == [2, 1]
    headers = {"idempotency-key": new_id()}
    restored = [
        client.post(f"{path}/restore", json={"version": 1}, headers=headers).json()
        for _ in range(2)
    ]
    assert restored[0] == restored[1] == client.get(path).json()
    assert (restored[0]["version"], restored[0]["data"]) == (3, {"plan": ["read", "write"]})
    assert client.post(f"{path}/restore", json={"version": 9}).status_code == 404


@pytest.mark.promise("CONTEXT-06")
def test_difference_leads_from_one_version_to_the_other(client: httpx.Client, path: str) -> None:
    one, two = {"a": [1, 2, {"b": None}]}, {"a": [1, {"b": "c"}], "d": 1.5}
    put(client, path, 0, **one)
    put(client, path, 1, **two)
    there = client.get(f"{path}/diff", params={"from_version": 1, "to_version": 2}).json()
    back = client.get(f"{path}/diff", params={"from_version": 2, "to_version": 1}).json()
    assert jsonpatch.apply_patch(one, there["patch"]) == two
    assert jsonpatch.apply_patch(two, back["patch"]) == one
    whole = client.get(f"{path}/diff").json()
    assert (whole["from_version"], whole["to_version"]) == (0, 2)
    assert jsonpatch.apply_patch({}, whole["patch"]) == two


def test_turn_moves_the_version_and_leaves_the_data(client: httpx.Client) -> None:
    first = ask(client, "Hello.", agent="chat")
    session_id = first[0].data["session_id"]
    path = f"/api/v1/sessions/{session_id}/context"
    assert client.get(path).json()["version"] == 1
    put(client, path, 1, kept=True)
    ask(client, "Again.", agent="chat", session_id=session_id)
    context = client.get(path).json()
    assert (context["version"], context["data"]) == (3, {"kept": True})
