"""One of everything that a caller can have: what others must not find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx

from meshwright.orchestrator.v1 import agent_registry_service_pb2
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright_common.ids import new_id
from meshwright_credentials import loopback_channel_credentials
from tests.asking import ask, eventually, indexed, turn_id_of
from tests.platform_process import Platform
from tests.security.sample_values import NOWHERE, NOWHERE_MCP
from tests.webhook_receiver import NOWHERE_HOST

CANARY: Final = "quetzalcoatlus"
"""A word in everything that is kept for somebody."""
_METHODS: Final = ("GET", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Owned:
    """What one caller has: ids by the names that paths and bodies give them."""

    api_key: str
    ids: dict[str, str]


def furnish(client: httpx.Client, api_key: str, *, erases: bool = True) -> Owned:
    """Let a caller make one of everything; without `erases`, no erasure."""
    document = indexed(client, "secret.txt", f"The password is {CANARY} {new_id()}.".encode())
    turn = client.get(
        f"/api/v1/turns/{turn_id_of(ask(client, f'Hello {CANARY}', agent='chat'))}"
    ).json()
    base = client.post("/api/v1/knowledge-bases", json={"name": f"{CANARY}-{new_id()}"}).json()
    call = client.post("/api/v1/tools/current_time/execute", json={"arguments": {}}).json()
    erasure = {"erasure_id": new_id()}
    if erases:
        user = client.post("/api/v1/users", json={"name": f"gone-{new_id()}"}).json()
        erasure = client.delete(f"/api/v1/users/{user['user_id']}").json()
    tenant = client.get("/api/v1/tenant").json()
    memory = {"kind": "fact", "text": f"Knows {CANARY}.", "topic": "user.secret"}
    remembered = client.post("/api/v1/memories", json={"memories": [memory]}).json()
    ids = (
        deployment_names(client)
        | guard_names(client)
        | mcp_names(client)
        | agent_names(client)
        | interrupt_ids(client)
        | {
            "memory_id": remembered["memories"][0]["memory_id"],
            "erasure_id": erasure["erasure_id"],
            "confirm_slug": tenant["slug"],
            "call_id": call["call_id"],
            "session_id": turn["session_id"],
            "turn_id": turn["turn_id"],
            "task_id": turn["task_id"],
            "document_id": document["document_id"],
            "knowledge_base_id": base["knowledge_base_id"],
            "default": document["knowledge_base_id"],
            "notification_id": notification_id(client),
            "schedule_id": schedule_id(client),
            **workflow_ids(client),
            **webhook_ids(client),
        }
    )
    return Owned(api_key, ids)


def deployment_names(client: httpx.Client) -> dict[str, str]:
    """Return the name of a new deployment, by what methods and routes call it."""
    name = f"{CANARY}-{new_id()}"
    body = {"name": name, "model": name, "provider": "openai", "base_url": NOWHERE}
    assert client.post("/api/v1/routing/deployments", json=body).status_code == 201
    service = "/meshwright.model_router.v1.RoutingService"
    routes = "/api/v1/routing"
    return dict.fromkeys(
        (
            *(f"{service}/{method}Deployment name" for method in ("Get", "Update", "Delete")),
            *(f"{service}/{method} deployment" for method in ("SetPrice", "ListPrices")),
            *(f"{method} {routes}/deployments/{{name}} name" for method in _METHODS),
            *(f"{method} {routes}/prices deployment" for method in ("GET", "POST")),
        ),
        name,
    )


def guard_names(client: httpx.Client) -> dict[str, str]:
    """Return the name of a new guard, by what methods and routes call it."""
    name = f"{CANARY}-{new_id()}"
    body = {"action": "report", "words": {"phrases": [CANARY]}}
    assert client.put(f"/api/v1/guards/{name}", json=body).status_code == 200
    method = "/meshwright.model_router.v1.GuardService/DeleteGuard name"
    return dict.fromkeys((method, "DELETE /api/v1/guards/{name} name"), name)


def mcp_names(client: httpx.Client) -> dict[str, str]:
    """Return the name of a new MCP server, which is nowhere, by what methods and routes call it."""
    name = new_id()[-32:]
    body = {"name": name, "url": NOWHERE_MCP, "description": CANARY}
    assert client.post("/api/v1/mcp/servers", json=body).status_code == 201
    service = "/meshwright.tool_exec.v1.McpService"
    route = "/api/v1/mcp/servers/{name}"
    return dict.fromkeys(
        (
            *(f"{service}/{method}Server name" for method in ("Refresh", "Remove")),
            *(f"{service}/{method}Servers names" for method in ("List", "Watch")),
            *(f"{method} {route} name" for method in ("GET", "DELETE")),
            f"POST {route}/refresh name",
        ),
        name,
    )


def interrupt_ids(client: httpx.Client) -> dict[str, str]:
    """Return two tasks that ask something, and what, by the method and the route that answer."""
    agent = f"{CANARY}-asks"
    definition = {"type": "chat", "tools": ["calculator"], "approval_tools": ["calculator"]}
    defined = client.put(f"/api/v1/agents/{agent}", json={"definition": definition})
    assert defined.status_code == 200
    task = {"agent": agent, "message": "What is 6*7?"}
    for _ in range(2):
        assert client.post("/api/v1/tasks", json=task).status_code == 202
    asked: list[dict[str, Any]] = []

    def both_ask() -> bool:
        asked[:] = client.get("/api/v1/interrupts").json()["interrupts"]
        return len(asked) == 2

    eventually(both_ask)
    answered_by = (
        "/meshwright.orchestrator.v1.AgentService/ResumeTask",
        "POST /api/v1/tasks/{task_id}/resume",
    )
    return {
        f"{where} {name}": str(one[name])
        for where, one in zip(answered_by, asked, strict=True)
        for name in ("task_id", "interrupt_id")
    }


def joined_instance(platform: Platform, api_key: str) -> str:
    """Return the id of a new instance of an agent that joined."""
    credentials = loopback_channel_credentials(platform.url, api_key)
    request = agent_registry_service_pb2.RegisterAgentRequest(
        agent=f"{CANARY}-{new_id()}", address="127.0.0.1:9", description=CANARY
    )
    with grpc.secure_channel(platform.grpc["orchestrator"], credentials) as channel:
        answer = AgentRegistryServiceStub(channel).RegisterAgent(request, timeout=20)
    return answer.instance.agent_instance_id


def agent_names(client: httpx.Client) -> dict[str, str]:
    """Return the name of a new agent, by what methods and routes call it."""
    name = f"{CANARY}-{new_id()}"
    body = {"definition": {"type": "chat", "instructions": CANARY}, "comment": CANARY}
    assert client.put(f"/api/v1/agents/{name}", json=body).status_code == 200
    service = "/meshwright.orchestrator.v1.AgentRegistryService"
    routes = "/api/v1/agents/{name}"
    return dict.fromkeys(
        (
            *(
                f"{service}/{method} name"
                for method in ("GetAgent", "ListAgentVersions", "RollbackAgent")
            ),
            f"GET {routes} name",
            f"GET {routes}/versions name",
            f"POST {routes}/rollback name",
        ),
        name,
    )


def webhook_ids(client: httpx.Client) -> dict[str, str]:
    """Return the ids of a new webhook, which points at nobody, and of a delivery to it."""
    body = {"url": f"http://{NOWHERE_HOST}/{CANARY}", "event_types": ["nothing.at_all"]}
    webhook_id = str(client.post("/api/v1/webhooks", json=body).json()["webhook_id"])
    sent = client.post(f"/api/v1/webhooks/{webhook_id}/test").json()
    return {"webhook_id": webhook_id, "delivery_id": str(sent["delivery_id"])}


def workflow_ids(client: httpx.Client) -> dict[str, str]:
    """Return the ids of a new workflow, and of a run of it that waits for a long time."""
    nap = {"name": "nap", "action": {"delay": "86400s"}}
    body = {"name": f"flow-{new_id()}", "definition": {"description": CANARY, "steps": [nap]}}
    workflow = client.post("/api/v1/workflows", json=body).json()["workflow_id"]
    path = f"/api/v1/workflows/{workflow}/runs"
    run = client.post(path, json={"input": {"secret": CANARY}}).json()
    return {"workflow_id": str(workflow), "run_id": str(run["run_id"])}


def schedule_id(client: httpx.Client) -> str:
    """Return the id of a new schedule."""
    task = {"agent": "chat", "message": CANARY}
    body = {"name": f"{CANARY}-{new_id()}", "cron": "0 0 1 1 *", "task": task}
    return str(client.post("/api/v1/schedules", json=body).json()["schedule_id"])


def notification_id(client: httpx.Client) -> str:
    """Return the id of the newest notification of a caller that was told something."""
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        told[:] = client.get("/api/v1/notifications").json()["notifications"]
        return bool(told)

    eventually(is_told)
    return str(told[0]["notification_id"])
