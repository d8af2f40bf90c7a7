"""Settings of the orchestrator: `MESHWRIGHT_ORCHESTRATOR__…`."""

from ipaddress import ip_network
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from meshwright_common.settings import CommonSettings, Section, ServiceName


class RemoteAgentSection(Section):
    """Agents that join from outside."""

    networks: tuple[str, ...] = ()
    """Where their programs may be, in CIDR notation, such as "10.1.0.0/16". Empty: nowhere.
    Loopback counts only when it is named itself."""

    hosts: tuple[str, ...] = ()
    """`host:port` that are allowed wherever they lie."""

    heartbeat_seconds: float = Field(default=5, ge=0.1, le=60)
    """How often an instance says that it lives; after three that are missing it is UNKNOWN."""

    offline_seconds: float = Field(default=3600, ge=1, le=86_400)
    """A silent instance is OFFLINE after this."""

    wait_seconds: float = Field(default=10, ge=0, le=300)
    """How long a task waits for an instance that can take it, before it is tried again later."""

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks


class OrchestratorSection(Section):
    """What this service alone reads."""

    task_lease_seconds: float = Field(default=10, ge=1, le=120)
    """A task whose process is silent for this long is taken over by another."""

    lease_renew_seconds: float = Field(default=3, ge=0.2, le=40)
    """How often leases are renewed: at most a third of the lease, or nearly so."""

    sweep_seconds: float = Field(default=2, ge=0.1, le=60)
    """How often lost tasks are looked for."""

    wait_sweep_seconds: float = Field(default=2, ge=0.1, le=5)
    """How often waiting tasks are looked for whose time has come."""

    question_seconds: float = Field(default=7 * 86_400, ge=1, le=366 * 86_400)
    """How long a question to a person stays open when nothing else is said."""

    poll_seconds: float = Field(default=0.25, ge=0.05, le=5)
    """How often a reader of a task that runs in another process looks for news."""

    task_seconds: float = Field(default=300, ge=1, le=86_400)
    """Time of a task that names no deadline."""

    max_steps: int = Field(default=25, ge=1, le=25)
    """Model and tool steps of a task that names no limit."""

    max_attempts: int = Field(default=5, ge=1, le=100)
    """A task whose process died so often fails: it may be what kills them."""

    task_retries: int = Field(default=3, ge=0, le=3)
    """How often a submitted task is begun again after a failure that may pass, such as a provider
    that is away: after 1, 2, 4 s and a little more. What it journaled is kept."""

    away_seconds: float = Field(default=120, ge=0, le=3600)
    """How long a step of a submitted task waits for a service of the platform that is away, before
    that counts as a failure as any other. It is tried again after random pauses of at most 8 s,
    which count as no attempt; the task holds no worker meanwhile."""

    awaited_away_seconds: float = Field(default=30, ge=0, le=300)
    """The same for a task whose caller waits for it, such as a turn of a chat: its answer is begun
    again after random pauses of at most 2 s."""

    max_running_tasks: int = Field(default=1000, ge=1)
    """Tasks this process runs at the same time; more are refused for now."""

    history_tokens: int = Field(default=16_000, ge=500, le=1_000_000)
    """About how many tokens of conversation a model gets to see, oldest dropped first."""

    recall_top_k: int = Field(default=6, ge=1, le=50)
    """Passages that the rag agent recalls for a question."""

    memory_top_k: int = Field(default=5, ge=0, le=50)
    """Memories that the built-in agents are told; 0: they do not ask."""

    memory_seconds: float = Field(default=0.3, gt=0, le=10)
    """How long an answer waits for memory at most; then it goes on without."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    """Ended tasks and their journals are deleted after this."""

    drain_seconds: float = Field(default=20, ge=0, le=300)
    """How long running tasks may go on after SIGTERM before another process takes them over."""

    worker_slots: int = Field(default=64, ge=0, le=10_000)
    """Submitted tasks that this process works on at the same time; 0: it works on none."""

    interactive_seconds: float = Field(default=3, ge=0, le=600)
    """How long a submitted task of high priority is offered to the workers at a time; it is
    offered four times, with pauses of 1, 2 and 4 s, then it expires. 0: it waits as others do."""

    redispatch_seconds: float = Field(default=30, ge=1, le=600)
    """A task that its queue has for so long is put into it again, in case the queue lost it; the
    next time after twice as long, up to 16 times."""

    dispatch_window: int = Field(default=256, ge=1, le=10_000)
    """So many tasks of a lane are in the work queues at a time. The rest waits in the table, where
    tenants take turns."""

    backlog_limit: int = Field(default=1000, ge=0)
    """While more tasks wait, new ones of low priority are refused."""

    max_schedules: int = Field(default=1000, ge=1)
    """Schedules that a tenant may have."""

    status_seconds: float = Field(default=5, ge=0.1, le=60)
    """How often this process tells the others how loaded it is."""

    remote_agents: RemoteAgentSection = RemoteAgentSection()
    """Agents that join from outside."""

    noop_agent: bool = False
    """Take tasks of the agent `noop`, which ends at once and calls no model: for measurements."""

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.lease_renew_seconds > self.task_lease_seconds / 2:
            raise ValueError("lease_renew_seconds must be at most half of task_lease_seconds")
        return self


class Settings(CommonSettings):
    """Everything an orchestrator process reads."""

    service: ClassVar[ServiceName] = "orchestrator"

    orchestrator: OrchestratorSection = OrchestratorSection()
