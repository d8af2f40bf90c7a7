"""Every fault of a provider, alone and beside a healthy deployment, in every form of asking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import httpx
import pytest

from tests.asking import ask, follow, turn_id_of
from tests.model_faults import FAULTS, LIES, Fault, unreachable
from tests.platform_process import Platform
from tests.sse import Event, text_of
from tests.tenants import new_tenant

ANSWER: Final = 60
"""Characters of the healthy deployment's answer."""
AT_ONCE: Final = 16
OPENAI_CODES: Final = {"PROVIDER_RATE_LIMIT": "rate_limit_exceeded"}
FORMS: Final = ("whole", "stream", "turn")

T = TypeVar("T")


class Told(NamedTuple):
    """What a caller got: a status, the text that counts, the error's code, and whether the end."""

    status: int
    text: str
    code: str
    ended: bool
    headers: httpx.Headers
    seen: tuple[Event, ...] = ()


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    headers = {"authorization": f"Bearer {new_tenant(platform).api_key}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=60, limits=limits) as opened:
        yield opened


def whole(client: httpx.Client, model: str) -> Told:
    """Ask over OpenAI's wire for an answer in one piece."""
    answer = client.post("/v1/chat/completions", json=_body(model))
    body = answer.json()
    if answer.status_code != 200:
        return Told(answer.status_code, "", body["error"]["code"], False, answer.headers)
    text = body["choices"][0]["message"]["content"]
    return Told(200, text, "", True, answer.headers)


def stream(client: httpx.Client, model: str) -> Told:
    """Ask over OpenAI's wire for a stream."""
    text, code, ended = "", "", False
    with client.stream("POST", "/v1/chat/completions", json=_body(model, stream=True)) as answer:
        if answer.status_code != 200:
            error = json.loads(answer.read())["error"]
            return Told(answer.status_code, "", error["code"], False, answer.headers)
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                ended = True
            elif data and data != line:
                chunk = json.loads(data)
                code = chunk.get("error", {}).get("code", code)
                for choice in chunk.get("choices", ()):
                    text += choice["delta"].get("content") or ""
    return Told(200, text, code, ended, answer.headers)


def turn(client: httpx.Client, model: str) -> Told:
    """Ask the platform's own way, for a turn of the chat agent."""
    seen = ask(client, "Say it.", model=model, agent="chat")
    end = seen[-1]
    failed = end.name == "turn.failed"
    code = end.data["reason"] if failed else ""
    ended = end.name == "turn.completed"
    if ended:
        assert end.data["answer"] == text_of(seen)
    return Told(200, text_of(seen), code, ended, httpx.Headers(), tuple(seen))


ASKING: Final[dict[str, Callable[[httpx.Client, str], Told]]] = {
    "whole": whole,
    "stream": stream,
    "turn": turn,
}


def code_of(fault: Fault, form: str) -> str:
    """Return the error's code: OpenAI has its own for a rate limit, and small letters."""
    if form == "turn":
        return fault.reason
    return OPENAI_CODES.get(fault.reason, fault.reason.lower())


def _body(model: str, **more: object) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say it."}], **more}


def all_of(
    client: httpx.Client, kind: str, faults: Iterable[Fault]
) -> Iterator[tuple[Fault, str, Told]]:
    """Ask for each fault in each form, many at once."""
    cases = [(fault, form) for fault in faults for form in FORMS]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        told = threads.map(
            lambda case: ASKING[case[1]](client, case[0].model(kind, case[1])), cases
        )
        for (fault, form), one in zip(cases, told, strict=True):
            yield fault, form, one


@pytest.mark.promise("FAULT-01")
def test_each_fault_of_a_lone_deployment_is_told_as_what_it_is(client: httpx.Client) -> None:
    for fault, form, told in all_of(client, "one", (*FAULTS, *unreachable())):
        case = f"{fault.name} {form}: {told}"
        assert not told.ended, case
        assert told.code == code_of(fault, form), case
        if form != "turn":
            assert told.status == (200 if fault.amid and form == "stream" else fault.status), case
        if fault.amid and form != "whole":
            assert 0 < len(told.text) < 200, case
        if fault.name == "paused" and form != "turn":
            assert 3500 < int(told.headers["retry-after"]) <= 3600, case


@pytest.mark.promise("FAULT-02")
def test_healthy_deployment_answers_for_a_faulty_one(client: httpx.Client) -> None:
    for fault, form, told in all_of(client, "two", (*FAULTS, *unreachable())):
        case = f"{fault.name} {form}: {told}"
        if fault.amid and form == "stream":
            # What was sent cannot be taken back over this wire.
            assert told.code == code_of(fault, form), case
            assert not told.ended, case
            continue
        assert told.ended, case
        assert (told.status, len(told.text), told.code) == (200, ANSWER, ""), case


@pytest.mark.promise("FAULT-03")
def test_turn_whose_stream_breaks_begins_anew_and_is_told_again_truthfully(
    client: httpx.Client,
) -> None:
    for fault in (one for one in FAULTS if one.amid):
        told = turn(client, fault.model("two", "again"))
        names = [event.name for event in told.seen]
        assert names.count("turn.restarted") == 1, told
        before = told.seen[: names.index("turn.restarted")]
        assert text_of(before)
        assert [event.sequence for event in told.seen] == [*range(1, len(told.seen) + 1)]
        turn_id = turn_id_of(list(told.seen))
        for position in ("", *(event.id for event in told.seen[:-1])):
            again = follow(client, turn_id, position)
            seen = [event for event in told.seen if position and event.id not in _ids(again)]
            assert text_of([*seen, *again]) == told.text, (position, again)


def _ids(events: list[Event]) -> set[str]:
    return {event.id for event in events}


@pytest.mark.promise("FAULT-04")
def test_fault_that_passes_is_not_noticed(client: httpx.Client) -> None:
    twice = [Fault("e503", "n6-err503-fails2", "", 200)]
    once = [
        Fault("limited", "n6-err429-retryafter1-fails1", "", 200),
        Fault("empty", "n6-truncate0-fails1", "", 200),
    ]
    for fault, form, told in (*all_of(client, "mend", twice), *all_of(client, "heal", once)):
        assert (told.ended, len(told.text)) == (True, ANSWER), f"{fault.name} {form}: {told}"


@pytest.mark.promise("FAULT-05")
def test_lies_and_oddities_of_a_provider_do_not_reach_the_caller(client: httpx.Client) -> None:
    lies = tuple(Fault(one.partition(":")[2], f"n6-{one}", "", 200) for one in LIES)
    for fault, form, told in all_of(client, "one", lies):
        case = f"{fault.name} {form}: {told}"
        assert told.ended, case
        assert told.text, case
        told.text.encode()


@pytest.mark.promise("FAULT-06")
def test_model_that_asks_for_the_same_tool_for_ever_is_ended(client: httpx.Client) -> None:
    """F-58."""
    arguments = b'{"expression": "1+1"}'.hex()
    model = f"sim-id:one.loop-tool:calculator-args:{arguments}-loop"
    seen = ask(client, "Say it.", model=model, agent="tool_call")
    assert seen[-1].name in {"turn.failed", "turn.completed"}
    calls = [event for event in seen if event.name == "tool.call"]
    assert 1 <= len(calls) <= 25
