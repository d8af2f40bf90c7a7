"""Guards through the public surface, in every arrangement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

SAID = "Write to anna.b@example.org, or call +49 170 1234567 now."
"""What the simulated model says."""
SAYING = f"sim-say:{SAID.encode().hex()}"


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    return new_tenant(platform)


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    with platform.client(tenant.api_key) as opened:
        yield opened


def put(client: httpx.Client, name: str, **guard: object) -> None:
    """Set a guard."""
    answer = client.put(f"/api/v1/guards/{name}", json=guard)
    assert answer.status_code == 200, answer.text


def check(client: httpx.Client, text: str, side: str = "input") -> dict[str, Any]:
    answer = client.post("/api/v1/guards/check", json={"text": text, "side": side})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def complete(client: httpx.Client, text: str, model: str, *, stream: bool) -> tuple[str, str]:
    """Return the answer's text and why it ended. Raises: AssertionError for an error."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not stream:
        choice = answer.json()["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    said = "".join(one["delta"].get("content") or "" for one in chunks)
    return said, chunks[-1]["finish_reason"]


@pytest.mark.promise("GUARD-01")
def test_blocked_input_is_refused_by_name_and_audited(
    client: httpx.Client,
) -> None:
    word = f"canary{new_id().replace('-', '')}"
    put(client, "secrecy", side="input", action="block", words={"phrases": [word]})
    eventually(lambda: check(client, word)["blocked"])
    body = {"model": SAYING, "messages": [{"role": "user", "content": f"tell {word} all"}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("content_filter", "invalid_request_error")
    assert "secrecy" in error["message"]
    assert word not in answer.text

    def audited() -> list[dict[str, Any]]:
        records = client.get("/api/v1/audit", params={"page_size": 50}).json()["records"]
        return [one for one in records if one["action"] == "guard.blocked"]

    eventually(lambda: bool(audited()))
    [record] = audited()
    assert record["resource"] == "guard/secrecy"
    assert word not in str(record)


@pytest.mark.promise("GUARD-02")
def test_redacted_output_is_the_same_with_and_without_a_stream(client: httpx.Client) -> None:
    put(client, "privacy", side="output", action="redact", pii={"kinds": ["email", "phone"]})
    eventually(lambda: check(client, SAID, "output")["text"] != SAID)
    for stream in (False, True):
        said, reason = complete(client, "Hello", SAYING, stream=stream)
        assert said == "Write to [email], or call [phone] now."
        assert reason == "stop"


@pytest.mark.promise("GUARD-03")
def test_blocked_output_ends_before_what_was_found(client: httpx.Client) -> None:
    regex = {"patterns": [r"\+[0-9 ]{10,20}"], "longest_match": 24}
    put(client, "numbers", side="output", action="block", regex=regex)
    eventually(lambda: check(client, SAID, "output")["blocked"])
    for stream in (False, True):
        said, reason = complete(client, "Hello", SAYING, stream=stream)
        assert said == "Write to anna.b@example.org, or call "
        assert reason == "content_filter"


@pytest.mark.promise("GUARD-04")
def test_a_guard_is_in_force_in_time_and_for_its_tenant_alone(
    platform: Platform, client: httpx.Client
) -> None:
    put(client, "manners", action="block", words={"phrases": ["坏词", "bad word"]})
    eventually(lambda: check(client, "说坏词了")["blocked"])
    with platform.client(new_tenant(platform).api_key) as other:
        assert not check(other, "a bad word")["blocked"]
        assert other.get("/api/v1/guards").json()["guards"] == []
    assert client.delete("/api/v1/guards/manners").status_code == 204
    eventually(lambda: not check(client, "a bad word")["blocked"])


@pytest.mark.promise("GUARD-05")
def test_a_text_is_tried_and_a_wrong_guard_is_refused_by_field(client: httpx.Client) -> None:
    put(client, "privacy", action="redact", replacement="<mail>", pii={"kinds": ["email"]})
    eventually(lambda: check(client, "a@b.com")["text"] == "<mail>")
    found = check(client, "a@b.com and c@d.org")
    assert (found["blocked"], found["text"]) == (False, "<mail> and <mail>")
    assert found["findings"] == [
        {"guard": "privacy", "category": "email", "side": "input", "action": "redact", "count": 2}
    ]
    [listed] = client.get("/api/v1/guards").json()["guards"]
    assert (listed["name"], listed["pii"], listed["regex"]) == (
        "privacy",
        {"kinds": ["email"]},
        None,
    )
    wrong = {"action": "block", "regex": {"patterns": ["(a"]}}
    answer = client.put("/api/v1/guards/broken", json=wrong)
    assert answer.status_code == 400
    assert "patterns" in answer.json()["detail"]
    for kinds in ({}, {"pii": {}, "words": {"phrases": ["x"]}}):
        answer = client.put("/api/v1/guards/broken", json={"action": "block", **kinds})
        assert answer.status_code == 422
    stale = {"action": "block", "pii": {}, "etag": "old"}
    assert client.put("/api/v1/guards/privacy", json=stale).status_code == 409


@pytest.mark.promise("GUARD-06")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_the_command_sets_lists_tries_and_removes_guards(
    platform: Platform, tenant: NewTenant, client: httpx.Client
) -> None:
    def command(*words: str) -> str:
        done = run_command("guards", *words, "--url", platform.url, "--key", tenant.api_key)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("set", "privacy", "--action", "redact", "--pii", "email,phone", "--model", "sim-*")
    listed = json.loads(command("list", "--json"))
    assert [(one["name"], one["models"]) for one in listed] == [("privacy", ["sim-*"])]
    assert "email,phone" in command("list")
    command("set", "privacy", "--action", "redact", "--pii", "all")
    eventually(lambda: check(client, "a@b.com")["text"] == "[email]")
    assert command("check", "I am a@b.com") == "passes: I am [email]\n  privacy email redact 1x\n"
    command("remove", "privacy")
    assert json.loads(command("list", "--json")) == []
    wrong = run_command("guards", "set", "x", "--action", "block", "--url", platform.url)
    assert wrong.returncode != 0
    assert "--phrase" in wrong.stderr
