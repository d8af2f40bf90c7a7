"""What was said in a turn is nowhere to be read in what the platform has stored (R-25, S-71)."""

from __future__ import annotations

import asyncio
import secrets

import httpx
import pytest

from tests.asking import ask, eventually, indexed, turn_id_of
from tests.platform_process import Platform
from tests.security import canary

SEARCHED = ("rag.passages", "rag.passage_terms", "rag.passage_vectors")
"""docs/adr/0014: a knowledge base is searched by its words, so those are not sealed."""


@pytest.mark.promise("SEAL-06")
def test_a_turn_leaves_nothing_plain(platform: Platform, client: httpx.Client) -> None:
    word = f"quaxolotl{secrets.token_hex(8)}"
    question = f"Please remember {word}."
    seen = ask(client, question, agent="chat", metadata={"note": word})
    turn = client.get(f"/api/v1/turns/{turn_id_of(seen)}").json()
    session = f"/api/v1/sessions/{turn['session_id']}"
    assert client.patch(session, json={"title": f"About {word}"}).status_code == 200
    for agent in ("chat", "rag", "tool_call"):
        ask(client, f"And {word} again?", agent=agent, session_id=turn["session_id"])
    told = client.get(f"{session}/messages").text + client.get(session).text
    assert told.count(word) >= 3, "what is sealed is read back"

    # The search gets everywhere: the journal is named by the turn, and rows are.
    turn_id = [str(turn["turn_id"]).encode()]
    assert canary.keys_with(platform, turn_id)
    named = asyncio.run(canary.tables_with(platform, turn_id))
    assert "chat.turns" in {table.removesuffix("_shared") for table in named}

    wanted = canary.shapes(word, question, f"And {word} again?", turn["answer"])
    assert asyncio.run(canary.tables_with(platform, wanted)) == set()
    assert canary.keys_with(platform, wanted) == set()
    assert asyncio.run(canary.objects_with(platform, wanted)) == set()
    assert canary.logs_with(platform, wanted) == set()


@pytest.mark.promise("SEAL-06")
def test_a_submitted_task_leaves_nothing_plain(platform: Platform, client: httpx.Client) -> None:
    word = f"quaxolotl{secrets.token_hex(8)}"
    body = {
        "agent": "chat",
        "messages": [{"role": "user", "content": f"Please remember {word}."}],
        "metadata": {"note": word},
    }
    task = client.post("/api/v1/tasks", json=body).json()

    def is_done() -> bool:
        state = client.get(f"/api/v1/tasks/{task['task_id']}").json()["state"]
        return state in {"completed", "failed"}

    eventually(is_done)
    wanted = canary.shapes(word)
    assert asyncio.run(canary.tables_with(platform, wanted)) == set()
    assert canary.keys_with(platform, wanted) == set()
    assert asyncio.run(canary.objects_with(platform, wanted)) == set()
    assert canary.logs_with(platform, wanted) == set()


def test_the_words_of_a_document_are_found_where_the_decision_names_them_and_nowhere_else(
    platform: Platform, client: httpx.Client
) -> None:
    word = f"quaxolotl{secrets.token_hex(8)}"
    document = indexed(client, "note.txt", f"Please remember {word}.".encode())
    assert document["state"] == "ready"
    wanted = canary.shapes(word)
    found = asyncio.run(canary.tables_with(platform, wanted))
    assert {table for table in found if not table.startswith(SEARCHED)} == set()
    assert "rag.passages" in {table.removesuffix("_shared") for table in found}
    assert len(asyncio.run(canary.objects_with(platform, wanted))) == 1
    assert canary.keys_with(platform, wanted) == set()
    assert canary.logs_with(platform, wanted) == set()
