"""Builds what agents that join from outside need: a part of the composition root."""

from dataclasses import dataclass

from meshwright_common.app import BackgroundTask
from meshwright_common.clock import Clock
from meshwright_common.dispatch.status import StatusBoard
from meshwright_common.encryption import KeyRing
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.postgres import Database
from meshwright_orchestrator.adapters.agent_addresses import AgentAddresses
from meshwright_orchestrator.adapters.postgres_instances import PostgresInstances
from meshwright_orchestrator.adapters.remote_agents import RemotePrograms
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.remote import SILENT_BEATS, RemoteDesk
from meshwright_orchestrator.domain.remote_engine import Patience, RemoteEngine
from meshwright_orchestrator.servicers.joined_agents import JoinedCalls
from meshwright_orchestrator.settings import OrchestratorSection
from meshwright_orchestrator.workers.instances import InstanceSweeper, InstanceTeller

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class RemoteParts:
    """What the composition root runs, and what it needs to serve calls."""

    engine: RemoteEngine
    instances: PostgresInstances
    addresses: AgentAddresses
    teller: InstanceTeller
    task: BackgroundTask
    heartbeat_seconds: float

    def calls(self, directory: AgentDirectory) -> JoinedCalls:
        """Return the served calls. `directory` knows the names that are taken."""
        return JoinedCalls(
            RemoteDesk(directory, self.instances, self.addresses),
            self.instances,
            self.teller,
            heartbeat_seconds=self.heartbeat_seconds,
        )


def remote_parts(
    database: Database,
    ring: KeyRing,
    channels: Channels,
    board: StatusBoard,
    clock: Clock,
    section: OrchestratorSection,
) -> RemoteParts:
    """Build agents that join over the stored instances."""
    remote = section.remote_agents
    silent_seconds = remote.heartbeat_seconds * SILENT_BEATS
    instances = PostgresInstances(database, ring, silent_seconds=silent_seconds)
    addresses = AgentAddresses(remote.networks, remote.hosts)
    programs = RemotePrograms(channels, addresses, clock)
    teller = InstanceTeller(board)
    sweeper = InstanceSweeper(
        instances,
        programs,
        teller,
        heartbeat_seconds=remote.heartbeat_seconds,
        offline_seconds=remote.offline_seconds,
        kept_seconds=section.retention_days * DAY_SECONDS,
    )
    engine = RemoteEngine(
        instances,
        programs,
        Patience(section.task_retries, remote.wait_seconds, silent_seconds),
        sweeper.look_now,
    )
    task = BackgroundTask("agent-instances", sweeper.run)
    return RemoteParts(engine, instances, addresses, teller, task, remote.heartbeat_seconds)
