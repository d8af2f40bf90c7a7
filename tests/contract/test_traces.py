"""One trace from the client to the tool and the ledger, over one process or many (OPS-TRACE)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import pytest

from meshwright_common.ids import new_id
from tests.asking import ask, eventually
from tests.platform_process import Platform
from tests.tenants import new_tenant
from tests.traces import TRACE_FILE, Recorded, awaited, every_span, new_trace, orphans, spans_of
from tests.webhook_receiver import WebhookReceiver

SERVED: Final = (
    "POST /api/v1/chat",
    "meshwright.chat.v1.ChatService/StreamChat",
    "meshwright.orchestrator.v1.AgentService/ExecuteTask",
    "invoke_agent rag",
    "meshwright.model_router.v1.ModelService/Generate",
    "chat offline",
    "meshwright.tool_exec.v1.ToolService/ExecuteTool",
    "execute_tool calculator",
    "process usage.stats",
    "process audit.log",
)
"""What a question is served by whose answer takes a tool."""
PROCESSES: Final = {"gateway", "chat", "orchestrator", "model-router", "tool-exec", "session"}
CONSUMER: Final = 5
CLIENT: Final = 3


def _file(platform: Platform) -> Path:
    return Path(platform.environment[TRACE_FILE])


def _one(spans: list[Recorded], name: str) -> Recorded:
    return next(span for span in spans if span.name == name)


def _is_whole(spans: list[Recorded], trace: str) -> bool:
    names = {span.name for span in spans}
    return names.issuperset(SERVED) and not orphans(spans, trace)


@pytest.mark.promise("OPS-TRACE-01")
@pytest.mark.promise("OPS-TRACE-02")
def test_one_trace_leads_from_the_gateway_to_the_tool_and_the_consumer(platform: Platform) -> None:
    """No span of it is an orphan, each service has its part, and none holds what was said."""
    trace, first = new_trace(), 10**9 + secrets.randbelow(10**9)
    with platform.client() as client:
        client.headers.update({"traceparent": trace, "tracestate": "a=1", "baggage": "user=canary"})
        ask(client, f"What is {first} + 7?")
        again = client.get("/api/v1/models")
    spans = awaited(_file(platform), trace, lambda found: _is_whole(found, trace))

    assert again.headers["traceresponse"].split("-")[1] == trace.split("-")[1]
    if platform.split:
        assert {span.service for span in spans} >= PROCESSES
        assert len({span.instance for span in spans}) >= len(PROCESSES)
    model, tool = _one(spans, "chat offline"), _one(spans, "execute_tool calculator")
    assert CLIENT == model.kind
    assert "chat" == model.attributes["gen_ai.operation.name"]
    assert int(model.attributes["gen_ai.usage.output_tokens"]) > 0
    assert model.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert "calculator" == tool.attributes["gen_ai.tool.name"]
    agent = _one(spans, "invoke_agent rag")
    assert agent.attributes["gen_ai.conversation.id"] == model.attributes["gen_ai.conversation.id"]
    assert CONSUMER == _one(spans, "process usage.stats").kind
    text = _file(platform).read_text()
    assert str(first) not in text
    assert str(first + 7) not in text
    assert "canary" not in text


@pytest.mark.promise("OPS-TRACE-03")
def test_what_fails_is_kept_although_its_trace_was_not_sampled(platform: Platform) -> None:
    """Its spans, from the edge to the provider; a request that went well leaves none."""
    well, badly = new_trace(sampled=False), new_trace(sampled=False)
    body = {"messages": [{"role": "user", "content": "sim-n3"}], "model": "sim-a"}
    with platform.client() as client:
        good = client.post("/v1/chat/completions", json=body, headers={"traceparent": well})
        body["messages"] = [{"role": "user", "content": "sim-err401"}]
        bad = client.post("/v1/chat/completions", json=body, headers={"traceparent": badly})
    assert (200, 502) == (good.status_code, bad.status_code)

    names = {
        "POST /v1/chat/completions",
        "meshwright.model_router.v1.ModelService/Generate",
        "chat sim-a",
    }
    spans = awaited(
        _file(platform),
        badly,
        lambda found: {span.name for span in found} >= names and not orphans(found, badly),
    )
    assert all(_one(spans, name).error for name in names)
    assert "failed" == _one(spans, "POST /v1/chat/completions").attributes["meshwright.kept"]
    assert [] == spans_of(_file(platform), well[3:35])


@pytest.mark.promise("OPS-TRACE-04")
def test_a_task_from_the_queue_goes_on_in_the_trace_of_its_submission(
    platform: Platform, webhook_receiver: WebhookReceiver
) -> None:
    """To the webhook that is told of its end, whose host learns nothing of the trace."""
    trace, name = new_trace(), new_id()
    with platform.client(new_tenant(platform).api_key) as client:
        hook = {"url": webhook_receiver.url(name), "event_types": ["task.*"]}
        assert 201 == client.post("/api/v1/webhooks", json=hook).status_code
        body = {"agent": "tool_call", "message": "What is 6 * 7?"}
        accepted = client.post("/api/v1/tasks", json=body, headers={"traceparent": trace})
    assert 202 == accepted.status_code, accepted.text

    spans = awaited(
        _file(platform),
        trace,
        lambda found: (
            {span.name for span in found}.issuperset(
                {"invoke_agent tool_call", "process task.result", "POST webhook"}
            )
            and not orphans(found, trace)
        ),
    )
    submission = _one(spans, "meshwright.orchestrator.v1.AgentService/SubmitTask")
    assert submission.span_id == _one(spans, "invoke_agent tool_call").parent_id
    (received,) = webhook_receiver.at(name)
    assert "traceparent" not in {header.lower() for header in received.headers}


@pytest.mark.promise("OPS-TRACE-05")
def test_a_trace_state_comes_with_its_trace_through_queue_and_events(
    platform: Platform, webhook_receiver: WebhookReceiver
) -> None:
    """To a host that may know of it, told of a task's end: there is no call between the two."""
    trace, state, name = new_trace(), "vendor=of the caller,b@c=2", new_id()
    with platform.client(new_tenant(platform).api_key) as client:
        hook = {"url": webhook_receiver.told_url(name), "event_types": ["task.*"]}
        assert 201 == client.post("/api/v1/webhooks", json=hook).status_code
        body = {"agent": "tool_call", "message": "What is 6 * 7?"}
        headers = {"traceparent": trace, "tracestate": state}
        assert 202 == client.post("/api/v1/tasks", json=body, headers=headers).status_code

    eventually(lambda: bool(webhook_receiver.at(name)))
    headers = {key.lower(): value for key, value in webhook_receiver.at(name)[0].headers.items()}
    assert state == headers["tracestate"]
    told = headers["traceparent"]
    assert trace[:35] == told[:35]
    # The span that told it, not the caller's.
    spans = awaited(_file(platform), trace, lambda found: told[36:52] in {s.span_id for s in found})
    assert "POST webhook" == next(one.name for one in spans if one.span_id == told[36:52])


@pytest.mark.promise("OPS-TRACE-02")
def test_no_span_of_any_test_so_far_carries_content(platform: Platform) -> None:
    """Not one of the attributes that hold prompts, answers, arguments or results."""
    content = ("input.messages", "output.messages", "call.arguments", "call.result", "instructions")
    spans = every_span(_file(platform))
    assert [] == [name for one in spans for name in one.attributes if name.endswith(content)]
