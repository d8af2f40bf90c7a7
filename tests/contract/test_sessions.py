"""What becomes of sessions: found, branched, archived and back, in every arrangement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from meshwright_cli.exits import Exit
from tests.asking import ask
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


def messages(client: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    listed = client.get(f"/api/v1/sessions/{session_id}/messages", params={"page_size": 200})
    return list(listed.json()["messages"])


def found(client: httpx.Client, words: str) -> list[str]:
    answer = client.get("/api/v1/messages/search", params={"q": words})
    assert answer.status_code == 200
    return [str(message["parts"][0]["text"]) for message in answer.json()["messages"]]


def talk(client: httpx.Client, *questions: str) -> str:
    """Ask in one session; return its id."""
    session_id = str(client.post("/api/v1/sessions", json={}).json()["session_id"])
    for question in questions:
        ask(client, question, agent="chat", model="sim-n5", session_id=session_id)
    return session_id


@pytest.mark.promise("SES-01")
def test_messages_are_found_by_their_words_and_only_by_who_said_them(
    platform: Platform, client: httpx.Client
) -> None:
    talk(client, "Where is the blue heron?", "苍鹭在哪里？")
    assert found(client, "HERON blue") == ["Where is the blue heron?"]
    assert found(client, "苍鹭") == ["苍鹭在哪里？"]
    assert found(client, "heron green") == []
    with platform.client(new_tenant(platform).api_key) as stranger:
        assert found(stranger, "heron") == []
    for wrong in ("", "x" * 401, "a\0b"):
        refused = client.get("/api/v1/messages/search", params={"q": wrong})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "q"


@pytest.mark.promise("SES-02")
def test_a_branch_goes_on_from_a_message_and_leaves_its_parent_alone(
    client: httpx.Client,
) -> None:
    parent = talk(client, "One.", "Two.")
    body = {"sequence": 2, "title": "another way"}
    made = client.post(f"/api/v1/sessions/{parent}/branch", json=body)
    assert made.status_code == 201
    child = made.json()
    assert made.headers["location"] == f"/api/v1/sessions/{child['session_id']}"
    assert (child["parent_session_id"], child["branch_sequence"]) == (parent, 2)
    assert child["title"] == "another way"
    ask(client, "Three.", agent="chat", model="sim-n5", session_id=child["session_id"])
    texts = [one["parts"][0]["text"] for one in messages(client, child["session_id"])]
    before = [one["parts"][0]["text"] for one in messages(client, parent)]
    assert (texts[:2], texts[2]) == (before[:2], "Three.")
    assert len(before) == 4
    refused = client.post(f"/api/v1/sessions/{parent}/branch", json={"sequence": 5})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "sequence"


@pytest.mark.promise("SES-03")
def test_an_archived_session_comes_back_exactly_and_a_turn_goes_on_in_it(
    client: httpx.Client,
) -> None:
    session_id = talk(client, "My name is Ann.")
    before = messages(client, session_id)
    address = f"/api/v1/sessions/{session_id}"
    session = client.get(address).json()
    moved = client.post(f"{address}/archive")
    assert (moved.status_code, moved.json()) == (200, session | {"archived": True})
    assert client.get(address).json()["archived"]
    assert found(client, "Ann name") == [], "the archive is not looked through"
    assert messages(client, session_id) == before
    assert client.get(address).json() == session
    client.post(f"{address}/archive")
    ask(client, "What is it?", agent="chat", model="sim-n5", session_id=session_id)
    after = messages(client, session_id)
    assert after[: len(before)] == before
    assert [one["sequence"] for one in after] == [1, 2, 3, 4]
    client.post(f"{address}/archive")
    restored = client.post(f"{address}/restore")
    assert (restored.status_code, restored.json()["archived"]) == (200, False)


@pytest.mark.promise("SES-04")
def test_a_session_without_a_title_is_named_by_what_its_user_says_first(
    client: httpx.Client,
) -> None:
    session_id = talk(client, "How do rivers\nbegin?", "And end?")
    assert client.get(f"/api/v1/sessions/{session_id}").json()["title"] == "How do rivers begin?"


@pytest.mark.promise("SES-05")
def test_the_command_finds_branches_archives_and_restores(
    platform: Platform, client: httpx.Client
) -> None:
    session_id = talk(client, "A kingfisher?")
    where = ("--url", platform.url, "--key", client.headers["authorization"].split()[1], "--json")

    def run(*command: str) -> list[dict[str, Any]]:
        done = run_command("sessions", *command, *where)
        assert done.returncode == Exit.OK, done.stderr
        return list(json.loads(done.stdout))

    assert [one["session_id"] for one in run("search", "kingfisher")] == [session_id]
    (child,) = run("branch", session_id, "1", "--title", "birds")
    assert (child["parent_session_id"], child["title"]) == (session_id, "birds")
    assert {session_id, child["session_id"]} <= {one["session_id"] for one in run("list")}
    assert [one["archived"] for one in run("archive", session_id)] == [True]
    assert [one["archived"] for one in run("restore", session_id)] == [False]
