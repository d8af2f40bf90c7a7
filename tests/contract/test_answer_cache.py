"""Stored answers through OpenAI's wire, in every arrangement."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.cache import empty, open_cache
from tests.platform_process import Platform
from tests.tenants import NewTenant, new_tenant

MODEL = "sim-n12"
"""Its answers hold the time: two generations are never the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as far as it matters here."""

    text: str
    cache: str | None
    age: str | None
    usage: dict[str, Any]


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    return new_tenant(platform)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(platform: Platform, tenant: NewTenant) -> Iterator[Ask]:
    """Ask in the tenant's name, or with another key."""
    with platform.client("") as client:

        def asking(
            text: str, header: str = "exact", *, key: str = "", model: str = MODEL
        ) -> Answer:
            headers = {"authorization": f"Bearer {key or tenant.api_key}"}
            if header:
                headers["x-meshwright-cache"] = header
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            answer = client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer_of(answer)

        yield asking


def answer_of(answer: httpx.Response) -> Answer:
    content = answer.json()
    head = answer.headers
    text = content["choices"][0]["message"]["content"]
    return Answer(text, head.get("x-cache"), head.get("age"), content["usage"])


@pytest.mark.promise("ANSWER-01")
def test_the_same_request_is_answered_again_for_nothing(ask: Ask) -> None:
    first, second = ask("Hello"), ask("Hello")
    assert (first.cache, second.cache) == ("MISS", "HIT")
    assert first.text == second.text
    assert first.age is None
    assert int(second.age or "-1") >= 0
    assert first.usage["completion_tokens"] == 12
    assert second.usage["total_tokens"] == 0
    fresh = ask("Hello", "exact; refresh")
    assert fresh.cache == "MISS"
    assert fresh.text != first.text
    unasked = ask("Hello", "")
    assert unasked.cache is None
    assert unasked.text not in {first.text, fresh.text}


@pytest.mark.promise("ANSWER-01")
def test_a_stream_is_told_again_in_order_and_its_head_says_so(
    platform: Platform, tenant: NewTenant
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    told: list[tuple[str | None, list[str]]] = []
    with platform.client(tenant.api_key) as client:
        for _ in range(2):
            with client.stream(
                *("POST", "/v1/chat/completions"),
                json=body,
                headers={"x-meshwright-cache": "exact"},
            ) as answer:
                lines = [line for line in answer.iter_lines() if line]
                told.append((answer.headers.get("x-cache"), lines))
    assert [status for status, _ in told] == ["MISS", "HIT"]
    for _, lines in told:
        assert lines[-1] == "data: [DONE]"
    texts = [joined(lines) for _, lines in told]
    assert texts[0] == texts[1] != ""


def joined(lines: list[str]) -> str:
    pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    return "".join(
        choice["delta"].get("content") or "" for one in pieces for choice in one["choices"]
    )


@pytest.mark.promise("ANSWER-02")
def test_a_question_that_means_the_same_gets_the_same_answer(ask: Ask) -> None:
    semantic = "semantic; min-similarity=0.9"
    first = ask("How do I reset my password?", semantic)
    assert first.cache == "MISS"

    def is_near() -> bool:
        again = ask("how do I reset my password", f"{semantic}; no-store")
        return (again.cache, again.text) == ("SEMANTIC_HIT", first.text)

    eventually(is_near)
    assert ask("What is the weather like in Ulm?", semantic).cache == "MISS"
    assert ask("How do I not reset my password?", semantic).cache == "MISS"
    assert ask("How do I reset my 2 passwords?", semantic).cache == "MISS"


@pytest.mark.promise("ANSWER-03")
def test_neither_tenant_nor_rights_nor_guards_of_others_lead_to_it(
    platform: Platform, tenant: NewTenant, ask: Ask
) -> None:
    word = f"canary-{new_id()}"
    first = ask(word)
    assert ask(word, key=new_tenant(platform).api_key).cache == "MISS"
    with platform.client(tenant.api_key) as client:
        users = [
            client.post("/api/v1/users", json={"name": new_id(), "roles": [role]}).json()
            for role in ("owner", "member")
        ]
        keys = [
            client.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()["secret"]
            for user in users
        ]
        assert ask(word, key=keys[1]).cache == "MISS"
        assert ask(word, key=keys[0]).text == first.text
        assert ask(word, "exact; private").cache == "MISS"
        assert ask(word, "exact; private", key=keys[0]).cache == "MISS"
        guard = {"action": "report", "words": {"phrases": ["quux"]}}
        assert client.put("/api/v1/guards/new", json=guard).status_code == 200
        eventually(lambda: ask(word).cache == "MISS")


@pytest.mark.promise("ANSWER-04")
def test_the_same_call_many_times_at_once_is_made_once(ask: Ask) -> None:
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(ask, "All at once", model="sim-n20-tps40") for _ in range(10)]
        answers = [one.result() for one in asked]
    assert len({answer.text for answer in answers}) == 1
    assert sorted(answer.cache or "" for answer in answers) == ["HIT"] * 9 + ["MISS"]


@pytest.mark.promise("ANSWER-05")
def test_an_emptied_redis_is_a_miss_and_tells_nobody_anything(
    platform: Platform, tenant: NewTenant, ask: Ask
) -> None:
    word = f"canary-{new_id()}"
    first = ask(word, "semantic")
    prefix = f"mw:{{{tenant.tenant_id}}}:answers"

    def stored() -> bytes:
        with open_cache(platform) as client:
            keys = list(client.scan_iter(match=f"{prefix}:*", count=1000))
            return b"".join(key + (client.dump(key) or b"") for key in keys)

    eventually(lambda: b":near:" in stored())
    content = stored()
    assert b":exact:" in content
    assert word.encode() not in content
    assert first.text.split()[0].encode() not in content
    empty(platform, tenant.tenant_id)
    again = ask(word, "exact")
    assert (again.cache, again.text == first.text) == ("MISS", False)
    assert ask(word, "exact").cache == "HIT"


@pytest.mark.promise("ANSWER-06")
@pytest.mark.parametrize("header", ["please", "exact; ttl=0", "exact; min-similarity=0.9"])
def test_a_header_that_cannot_be_read_is_refused(
    platform: Platform, tenant: NewTenant, header: str
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    with platform.client(tenant.api_key) as client:
        answer = client.post(
            "/v1/chat/completions", json=body, headers={"x-meshwright-cache": header}
        )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "x-meshwright-cache"
    assert error["type"] == "invalid_request_error"
