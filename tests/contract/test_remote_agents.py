"""Agents that join from outside, as programs beside the real platform."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.types.v1 import message_pb2
from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from meshwright_common.storage.embedded.process import free_port
from meshwright_credentials import loopback_channel_credentials
from tests.asking import ask, eventually
from tests.contract.test_public_grpc import ONLY_STUBS, reason_of
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "remote_agent.py"
BUSY = {"cpu_free": 0.0, "memory_free": 0.0, "pending_tasks": 6}
END_SECONDS = 60


@dataclass
class Agents:
    """A tenant's stubs, and its programs."""

    platform: Platform
    tenant: NewTenant
    registry: Any
    tasks: Any
    folder: Path
    gate: Path

    @contextmanager
    def program(self, name: str) -> Iterator[Program]:
        """Run a program, not joined yet."""
        log = self.folder / name
        log.touch()
        command = [sys.executable, "-m", "tests.contract.remote_program"]
        with subprocess.Popen(
            [*command, name, str(log), str(self.gate)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield Program(process, f"127.0.0.1:{process.stdout.readline().strip()}", log)
            finally:
                process.kill()

    def join(self, program: Program, agent: str, **load: Any) -> str:
        """Let a program work as an agent, with a first heartbeat; return its id."""
        request = agent_registry_service_pb2.RegisterAgentRequest(
            agent=agent, address=program.address
        )
        instance_id: str = self.registry.RegisterAgent(request).instance.agent_instance_id
        self.beat(instance_id, **load)
        return instance_id

    def beat(self, instance_id: str, *, draining: bool = False, **load: Any) -> Any:
        """Send one heartbeat."""
        beat = agent_registry_service_pb2.UpdateStatusRequest(
            agent_instance_id=instance_id,
            load=agent_pb2.AgentLoad(**(load or {"cpu_free": 1, "memory_free": 1})),
            draining=draining,
        )
        return self.registry.UpdateStatus(iter([beat])).instance

    def execute(self, agent: str) -> Any:
        """Ask an agent; return the events as they come."""
        hello = message_pb2.Message(
            role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="Hello")]
        )
        spec = task_pb2.TaskSpec(agent=agent, messages=[hello])
        return self.tasks.ExecuteTask(agent_service_pb2.ExecuteTaskRequest(spec=spec), timeout=60)


@dataclass
class Program:
    """A program that runs."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    @property
    def asked(self) -> Sequence[str]:
        """The tasks that it was asked to do."""
        return self.log.read_text().split()


@pytest.fixture
def agents(platform: Platform, tmp_path: Path) -> Iterator[Agents]:
    """The agents of a tenant of its own."""
    tenant = new_tenant(platform)
    credentials = loopback_channel_credentials(platform.url, tenant.api_key)
    with grpc.secure_channel(platform.grpc["orchestrator"], credentials) as channel:
        yield Agents(
            platform,
            tenant,
            AgentRegistryServiceStub(channel),
            AgentServiceStub(channel),
            tmp_path,
            tmp_path / "gate",
        )


@pytest.mark.promise("REMOTE-01")
def test_a_program_with_nothing_but_the_stubs_joins_answers_and_leaves(agents: Agents) -> None:
    platform, tenant = agents.platform, agents.tenant
    endpoint = agents.folder / "endpoint.json"
    content = {"url": platform.url, "api_key": tenant.api_key, "grpc": dict(platform.grpc)}
    endpoint.write_text(json.dumps(content))
    address = f"127.0.0.1:{free_port()}"
    keys = platform.data / "keys" / "trusted.json"
    words = [str(EXAMPLE), str(endpoint), str(keys), "echo", address]
    options = ("--url", platform.url, "--key", tenant.api_key)
    with (
        platform.client(tenant.api_key) as client,
        subprocess.Popen([sys.executable, "-c", ONLY_STUBS, *words]) as process,
    ):
        try:
            shown: dict[str, Any] = {}

            def is_online() -> bool:
                answer = client.get("/api/v1/agents/echo")
                shown.update(answer.json() if answer.status_code == 200 else {})
                return bool(shown) and shown["instances"][0]["weight"] == 85

            eventually(is_online)
            said = ask(client, "Hello", agent="echo")
            listed = run_command("agents", "list", *options)
            of_one = run_command("agents", "show", "echo", *options)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0
        assert client.get("/api/v1/agents/echo").json()["instances"] == []
    (instance,) = shown["instances"]
    assert (shown["type"], shown["online_instances"]) == ("remote", 1)
    assert (instance["state"], instance["address"]) == ("online", address)
    assert (instance["cpu_free"], instance["pending_tasks"]) == (1, 0)
    assert "".join(event.data.get("text", "") for event in said) == "You said: Hello"
    assert listed.returncode == of_one.returncode == Exit.OK
    assert "echo" in listed.stdout
    assert address in of_one.stdout
    assert "online" in of_one.stdout


@pytest.mark.promise("REMOTE-02")
def test_death_of_the_program_lets_another_instance_do_the_task_once(agents: Agents) -> None:
    with ExitStack() as stack:
        programs = [stack.enter_context(agents.program(name)) for name in ("one", "two")]
        for program in programs:
            agents.join(program, "worker")
        events = agents.execute("worker")
        first = next(events).event
        eventually(lambda: any(program.asked for program in programs))
        dying, other = sorted(programs, key=lambda program: not program.asked)
        dying.process.kill()
        eventually(lambda: bool(other.asked))
        agents.gate.touch()
        rest = [one.event for one in events]
        read = agent_service_pb2.GetTaskRequest(task_id=first.task_id)
        task = agents.tasks.GetTask(read).task
    assert rest[-1].final.answer == f"{other.log.name} did it"
    assert (task.state, task.step_count) == (task_pb2.TASK_STATE_COMPLETED, 1)
    assert dying.asked == other.asked == [first.task_id]


@pytest.mark.promise("REMOTE-03", "REMOTE-05")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_work_is_shared_by_weight_and_a_draining_instance_takes_none(agents: Agents) -> None:
    agents.gate.touch()
    with agents.program("idle") as idle, agents.program("busy") as busy:
        idle_id = agents.join(idle, "worker")
        agents.join(busy, "worker", **BUSY)
        for _ in range(21):
            list(agents.execute("worker"))
        # Weights 85 and 20: of 21 turns 17 and 4, give or take one.
        assert abs(len(idle.asked) - 17) <= 1
        assert len(idle.asked) + len(busy.asked) == 21
        before = len(idle.asked)
        assert agents.beat(idle_id, draining=True).state == (agent_pb2.AGENT_INSTANCE_STATE_OFFLINE)
        for _ in range(3):
            list(agents.execute("worker"))
        assert len(idle.asked) == before
        with pytest.raises(grpc.RpcError) as gone:
            agents.beat(idle_id)
    expected = (grpc.StatusCode.NOT_FOUND, "AGENT_INSTANCE_NOT_FOUND")
    assert reason_of(gone.value) == expected


@pytest.mark.promise("REMOTE-04")
def test_names_addresses_and_callers_that_may_not_join_are_refused(agents: Agents) -> None:
    def refusal(agent: str, address: str) -> tuple[grpc.StatusCode, str]:
        request = agent_registry_service_pb2.RegisterAgentRequest(agent=agent, address=address)
        with pytest.raises(grpc.RpcError) as refused:
            agents.registry.RegisterAgent(request)
        return reason_of(refused.value)

    exists = (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    denied = (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert refusal("chat", "127.0.0.1:9") == exists
    assert refusal("new", "192.0.2.1:9") == (denied[0], "EGRESS_REFUSED")
    with agents.platform.client(agents.tenant.api_key) as client:
        body = {"definition": {"type": "chat"}}
        assert client.put("/api/v1/agents/mine", json=body).status_code == 200
        assert refusal("mine", "127.0.0.1:9") == exists
        joined = agent_registry_service_pb2.RegisterAgentRequest(
            agent=f"joined-{new_id()}", address="127.0.0.1:9"
        )
        agents.registry.RegisterAgent(joined)
        assert client.put(f"/api/v1/agents/{joined.agent}", json=body).status_code == 409
        narrow = {"label": "narrow", "permissions": ["agent:read"]}
        key = client.post("/api/v1/api-keys", json=narrow).json()["secret"]
    credentials = loopback_channel_credentials(agents.platform.url, key)
    with (
        grpc.secure_channel(agents.platform.grpc["orchestrator"], credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        AgentRegistryServiceStub(channel).RegisterAgent(joined)
    assert reason_of(refused.value) == denied
