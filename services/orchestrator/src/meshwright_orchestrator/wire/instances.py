"""Instances of agents that joined: protobuf to domain and back, with the checks of shape."""

import math
from typing import Final

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.remote import (
    AgentLoad,
    Instance,
    InstanceState,
    Registration,
    RemoteAgent,
)
from meshwright_orchestrator.wire.definitions import MAX_DESCRIPTION_CHARACTERS, name_from

MAX_TASKS: Final = 1_000
DEFAULT_TASKS: Final = 8
MAX_LABELS: Final = 16
MAX_LABEL_CHARACTERS: Final = 63
MAX_PENDING: Final = 1_000_000

_STATES: Final = {
    InstanceState.ONLINE: agent_pb2.AGENT_INSTANCE_STATE_ONLINE,
    InstanceState.DRAINING: agent_pb2.AGENT_INSTANCE_STATE_DRAINING,
    InstanceState.UNKNOWN: agent_pb2.AGENT_INSTANCE_STATE_UNKNOWN,
    InstanceState.OFFLINE: agent_pb2.AGENT_INSTANCE_STATE_OFFLINE,
}


def registration_from(request: pb.RegisterAgentRequest) -> Registration:
    """Return what a program says of itself. Raises: InvalidArgument naming the field."""
    if len(request.description) > MAX_DESCRIPTION_CHARACTERS or "\0" in request.description:
        raise invalid("description", f"must be at most {MAX_DESCRIPTION_CHARACTERS} characters")
    if not 0 <= request.max_concurrent_tasks <= MAX_TASKS:
        raise invalid("max_concurrent_tasks", f"must be 0 to {MAX_TASKS}")
    if len(request.labels) > MAX_LABELS:
        raise invalid("labels", f"must be at most {MAX_LABELS}")
    for label, value in request.labels.items():
        for text in (label, value):
            if not 1 <= len(text) <= MAX_LABEL_CHARACTERS or not text.isprintable():
                raise invalid(
                    "labels", f"names and values must be 1 to {MAX_LABEL_CHARACTERS} characters"
                )
    return Registration(
        agent=name_from(request.agent, "agent"),
        description=request.description,
        address=request.address,
        max_concurrent_tasks=request.max_concurrent_tasks or DEFAULT_TASKS,
        labels=dict(request.labels),
    )


def load_from(request: pb.UpdateStatusRequest) -> AgentLoad:
    """Return the load of a heartbeat. Raises: InvalidArgument naming the field."""
    if not request.HasField("load"):
        raise invalid("load", "must be given")
    load = request.load
    for field in ("cpu_free", "memory_free", "error_rate"):
        value = getattr(load, field)
        if not math.isfinite(value) or not 0 <= value <= 1:
            raise invalid(f"load.{field}", "must be 0 to 1")
    if not 0 <= load.pending_tasks <= MAX_PENDING:
        raise invalid("load.pending_tasks", f"must be 0 to {MAX_PENDING}")
    return AgentLoad(load.cpu_free, load.memory_free, load.pending_tasks, load.error_rate)


def instance_message(instance: Instance) -> agent_pb2.AgentInstance:
    """Return an instance as the wire shows it."""
    message = agent_pb2.AgentInstance(
        agent_instance_id=instance.instance_id,
        agent=instance.agent,
        address=instance.address,
        state=_STATES[instance.state],
        weight=instance.weight,
        max_concurrent_tasks=instance.max_concurrent_tasks,
        labels=instance.labels,
    )
    if instance.load is not None:
        message.load.cpu_free = instance.load.cpu_free
        message.load.memory_free = instance.load.memory_free
        message.load.pending_tasks = instance.load.pending
        message.load.error_rate = instance.load.error_rate
    message.register_time.FromDatetime(instance.registered_at)
    if instance.heartbeat_at is not None:
        message.heartbeat_time.FromDatetime(instance.heartbeat_at)
    return message


def remote_message(agent: RemoteAgent) -> agent_pb2.Agent:
    """Return an agent that joined."""
    message = agent_pb2.Agent(
        name=agent.name,
        description=agent.description,
        type=agent_pb2.AGENT_TYPE_REMOTE,
        version=1,
        online_instances=agent.online,
    )
    message.create_time.FromDatetime(agent.created_at)
    message.update_time.FromDatetime(agent.updated_at)
    return message
