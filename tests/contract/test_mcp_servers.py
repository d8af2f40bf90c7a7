"""MCP servers of tenants, over HTTP, with the SDK's own server as a program beside the platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from meshwright.tool_exec.v1 import mcp_server_pb2, mcp_service_pb2, tool_service_pb2
from meshwright.tool_exec.v1.mcp_service_pb2_grpc import McpServiceStub
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceStub
from meshwright_credentials import loopback_channel_credentials
from tests.asking import ask, eventually
from tests.contract.test_public_grpc import reason_of
from tests.mcp_workshop import Workshop, ports_of, working
from tests.platform_process import Platform
from tests.tenants import new_tenant
from tests.traces import TRACE_FILE, awaited, new_trace

SERVERS: Final = "/api/v1/mcp/servers"
NAME: Final = "workshop"
SECRET: Final = "open-sesame-of-the-tests"


@pytest.fixture
def workshop(platform: Platform, tmp_path: Path) -> Iterator[Workshop]:
    """A server that runs."""
    with working(ports_of(platform.environment)[0], tmp_path) as running:
        yield running


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as made:
        yield made


def add(client: httpx.Client, url: str, **more: Any) -> dict[str, Any]:
    """Add the workshop, all of its tools approved."""
    body = {"name": NAME, "url": url, "approve_tools": True, **more}
    answer = client.post(SERVERS, json=body)
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    return added


def call(client: httpx.Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call one of the workshop's tools."""
    path = f"/api/v1/tools/{NAME}.{tool}/execute"
    answer = client.post(path, json={"arguments": arguments})
    assert answer.status_code == 200, answer.text
    outcome: dict[str, Any] = answer.json()
    return outcome


def listed(client: httpx.Client) -> set[str]:
    """Return the names of the tools that the caller may use."""
    return {tool["name"] for tool in client.get("/api/v1/tools").json()["tools"]}


def state_of(client: httpx.Client) -> str:
    """Return how the workshop does."""
    return str(client.get(f"{SERVERS}/{NAME}").json()["state"])


@pytest.mark.promise("MCP-01")
@pytest.mark.promise("MCP-08")
def test_tools_of_an_added_server_are_used_at_once_and_gone_when_it_is_removed(
    client: httpx.Client, workshop: Workshop
) -> None:
    added = add(client, workshop.url, trust_annotations=True)
    assert ("ready", 0) == (added["state"], added["pending_tool_count"])
    effects = {tool["name"]: tool["effect"] for tool in added["tools"]}
    assert "read_only" == effects[f"{NAME}.add"]
    assert "non_idempotent" == effects[f"{NAME}.slow"]
    assert f"{NAME}.add" in listed(client)
    assert {"result": 42} == call(client, "add", a=2, b=40)["result"]
    wrong = client.post(f"/api/v1/tools/{NAME}.add/execute", json={"arguments": {"a": "two"}})
    assert (422, "TOOL_ARGUMENTS_INVALID") == (wrong.status_code, wrong.json()["code"])
    failed = call(client, "fail")
    assert failed["is_error"]
    assert "TOOL_FAILED" == failed["result"]["reason"]

    arguments = json.dumps({"a": 20, "b": 22}).encode().hex()
    seen = ask(client, "Add", agent="tool_call", model=f"sim-tool:{NAME}_add-args:{arguments}-n2")
    [result] = [event.data for event in seen if event.name == "tool.result"]
    assert (f"{NAME}.add", {"result": 42}) == (result["name"], json.loads(result["result_json"]))

    # What comes later waits for somebody who read it.
    call(client, "grow")
    eventually(lambda: client.get(f"{SERVERS}/{NAME}").json()["pending_tool_count"] == 1)
    assert f"{NAME}.grown" not in listed(client)
    tools = client.get(f"{SERVERS}/{NAME}").json()["tools"]
    [grown] = [tool["definition_sha256"] for tool in tools if not tool["approved"]]
    strange = client.post(f"{SERVERS}/{NAME}/refresh", json={"approve_definitions": ["0" * 64]})
    assert (409, "CONFLICT") == (strange.status_code, strange.json()["code"])
    client.post(f"{SERVERS}/{NAME}/refresh", json={"approve_definitions": [grown]})
    assert "grown" in str(call(client, "grown")["result"])

    assert 204 == client.delete(f"{SERVERS}/{NAME}").status_code
    assert 204 == client.delete(f"{SERVERS}/{NAME}").status_code
    gone = client.post(f"/api/v1/tools/{NAME}.add/execute", json={"arguments": {"a": 1, "b": 1}})
    assert (404, "TOOL_NOT_FOUND") == (gone.status_code, gone.json()["code"])
    eventually(lambda: _audited(client) >= {"mcp_server.added", "mcp_server.removed"})


def _audited(client: httpx.Client) -> set[str]:
    return {one["action"] for one in client.get("/api/v1/audit").json()["records"]}


@pytest.mark.promise("MCP-02")
def test_a_running_call_survives_and_a_cancelled_one_is_cancelled_at_the_server(
    platform: Platform, workshop: Workshop
) -> None:
    tenant = new_tenant(platform)
    credentials = loopback_channel_credentials(platform.url, tenant.api_key)
    with (
        platform.client(tenant.api_key) as client,
        grpc.secure_channel(platform.grpc["tool-exec"], credentials) as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        add(client, workshop.url)
        tools = ToolServiceStub(channel)
        request = tool_service_pb2.ExecuteToolRequest(
            name=f"{NAME}.slow", arguments_json='{"word": "stop"}'
        )
        stopped = tools.ExecuteTool(request)
        call_id = next(stopped).event.started.call_id
        eventually(lambda: "begun stop" in workshop.log())
        tools.CancelCall(tool_service_pb2.CancelCallRequest(call_id=call_id))
        assert next(stopped).event.outcome.is_error
        eventually(lambda: "cancelled stop" in workshop.log())

        running = pool.submit(call, client, "slow", word="on")
        eventually(lambda: "begun on" in workshop.log())
        refreshed = client.post(f"{SERVERS}/{NAME}/refresh", json={})
        assert 200 == refreshed.status_code, refreshed.text
        add(client, workshop.url, replace=True)
        assert 204 == client.delete(f"{SERVERS}/{NAME}").status_code
        assert f"{NAME}.slow" not in listed(client)
        workshop.open_gate()
        outcome = running.result(timeout=60)
    assert (False, {"result": "on"}) == (outcome["is_error"], outcome["result"])
    assert "cancelled on" not in workshop.log()


@pytest.mark.promise("MCP-03")
@pytest.mark.promise("MCP-07")
def test_a_dead_server_is_seen_and_one_that_is_back_is_used_again(
    client: httpx.Client, workshop: Workshop
) -> None:
    add(client, workshop.url)
    unknown = call(client, "die")
    assert (True, "OUTCOME_UNKNOWN") == (unknown["is_error"], unknown["result"]["reason"])
    assert ["dying"] == workshop.log()
    eventually(lambda: state_of(client) == "unavailable")
    assert f"{NAME}.add" in listed(client)
    away = call(client, "add", a=1, b=1)
    assert (True, "MCP_SERVER_UNAVAILABLE") == (away["is_error"], away["result"]["reason"])
    refused = client.post(f"{SERVERS}/{NAME}/refresh", json={})
    assert (503, "MCP_SERVER_UNAVAILABLE") == (refused.status_code, refused.json()["code"])

    workshop.kill()
    workshop.start()
    eventually(lambda: state_of(client) == "ready")
    assert {"result": 2} == call(client, "add", a=1, b=1)["result"]

    # Trusted to be repeatable, a lost answer is only no answer.
    add(client, workshop.url, replace=True, trust_annotations=True)
    workshop.kill()
    lost = call(client, "add", a=1, b=1)
    assert "MCP_SERVER_UNAVAILABLE" == lost["result"]["reason"]


@pytest.mark.promise("MCP-04")
@pytest.mark.promise("MCP-06")
@pytest.mark.promise("MCP-10")
def test_a_server_is_its_tenants_and_hears_what_it_may(
    platform: Platform, client: httpx.Client, workshop: Workshop
) -> None:
    """The trace by name only, the credential always; other tenants see nothing of it."""
    trace = new_trace()
    client.headers["traceparent"] = trace
    add(client, workshop.url, credential={"bearer_token": SECRET})
    assert {} == call(client, "told")["result"]
    assert f"Bearer {SECRET}" in str(call(client, "seen", header="authorization")["result"])
    # A credential does not go on to another host by itself: told_url is another one.
    shown = add(client, workshop.told_url, replace=True)
    assert "none" == shown["credential_kind"]
    told = call(client, "told")["result"]
    assert trace[3:35] == told["traceparent"].split("-")[1]
    assert "tracestate" not in told
    spans = awaited(
        Path(platform.environment[TRACE_FILE]),
        trace,
        lambda found: any(one.span_id == told["traceparent"].split("-")[2] for one in found),
    )
    [span] = [one for one in spans if one.span_id == told["traceparent"].split("-")[2]]
    assert (f"execute_tool {NAME}.told", "tools/call") == (
        span.name,
        span.attributes["mcp.method.name"],
    )

    with platform.client(new_tenant(platform).api_key) as stranger:
        assert [] == stranger.get(SERVERS).json()["servers"]
        assert 404 == stranger.get(f"{SERVERS}/{NAME}").status_code
        assert f"{NAME}.add" not in listed(stranger)
        refused = stranger.post(f"{SERVERS}/{NAME}/refresh", json={})
        assert (404, "MCP_SERVER_NOT_FOUND") == (refused.status_code, refused.json()["code"])
        stranger.delete(f"{SERVERS}/{NAME}")
    assert "ready" == state_of(client)
    assert SECRET not in client.get(SERVERS).text + client.get(f"{SERVERS}/{NAME}").text
    logs = platform.data / "logs"
    assert not [log for log in logs.iterdir() if SECRET in log.read_text("utf-8", "replace")]


WRONG: Final[tuple[tuple[dict[str, Any], int, str, str], ...]] = (
    ({"url": "https://127.0.0.1/mcp"}, 403, "EGRESS_REFUSED", ""),
    ({"url": "https://169.254.169.254/"}, 403, "EGRESS_REFUSED", ""),
    ({"url": "https://[::1]/mcp"}, 403, "EGRESS_REFUSED", ""),
    ({"url": "https://example.com:22/mcp"}, 403, "EGRESS_REFUSED", ""),
    ({"url": "http://example.com/mcp"}, 400, "INVALID_ARGUMENT", "url"),
    ({"name": "No Name"}, 422, "INVALID_ARGUMENT", "name"),
    ({"transport": "stdio"}, 422, "INVALID_ARGUMENT", "transport"),
    ({"credential": {}}, 422, "INVALID_ARGUMENT", "credential"),
    (
        {"credential": {"header": {"name": "Mcp-Name", "value": "x"}}},
        400,
        "INVALID_ARGUMENT",
        "name",
    ),
    ({"credential": {"bearer_token": "ü"}}, 400, "INVALID_ARGUMENT", "bearer_token"),
)
"""What is wrong with a request, and how it is refused: status, reason, the field named."""


@pytest.mark.promise("MCP-05")
def test_wrong_and_private_servers_are_refused(client: httpx.Client) -> None:
    for body, status, code, field in WRONG:
        whole = {"name": NAME, "url": "https://example.com/mcp", **body}
        refused = client.post(SERVERS, json=whole)
        fields = {error["field"] for error in refused.json()["errors"]}
        assert (status, code) == (refused.status_code, refused.json()["code"]), body
        assert not field or any(field in one for one in fields), body
    assert [] == client.get(SERVERS).json()["servers"]


@pytest.mark.promise("MCP-05")
def test_programs_come_from_the_operator_alone_and_names_are_kept(
    platform: Platform, workshop: Workshop
) -> None:
    credentials = loopback_channel_credentials(platform.url, new_tenant(platform).api_key)
    with grpc.secure_channel(platform.grpc["tool-exec"], credentials) as channel:
        servers = McpServiceStub(channel)
        program = mcp_service_pb2.AddServerRequest(
            name="sh", transport=mcp_server_pb2.MCP_TRANSPORT_STDIO, url="/bin/sh"
        )
        with pytest.raises(grpc.RpcError) as refused:
            servers.AddServer(program)
        assert (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED") == reason_of(refused.value)
        once = mcp_service_pb2.AddServerRequest(name=NAME, url=workshop.url, request_id="one")
        first = servers.AddServer(once).server
        assert first == servers.AddServer(once).server
        with pytest.raises(grpc.RpcError) as again:
            servers.AddServer(mcp_service_pb2.AddServerRequest(name=NAME, url=workshop.url))
        assert grpc.StatusCode.ALREADY_EXISTS is again.value.code()
        once.description = "another"
        with pytest.raises(grpc.RpcError) as reused:
            servers.AddServer(once)
        assert "IDEMPOTENCY_KEY_REUSED" == reason_of(reused.value)[1]
        watched = servers.WatchServers(mcp_service_pb2.WatchServersRequest(), timeout=60)
        shown = next(watched)
        assert (NAME, True) == (shown.server.name, shown.complete)
        assert {tool.name for tool in shown.server.tools} >= {f"{NAME}.add"}
        servers.RemoveServer(mcp_service_pb2.RemoveServerRequest(name=NAME))
        removed = next(
            one for one in watched if one.server.state == mcp_server_pb2.MCP_SERVER_STATE_REMOVED
        )
        assert NAME == removed.server.name
        watched.cancel()
