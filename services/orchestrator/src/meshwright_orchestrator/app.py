"""The orchestrator's composition root."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc.aio

from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceStub
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import (
    add_AgentRegistryServiceServicer_to_server,
)
from meshwright.orchestrator.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import (
    add_WorkflowServiceServicer_to_server,
)
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceStub
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceStub
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.dispatch.backbone import open_dispatch
from meshwright_common.dispatch.lanes import retry_delay_seconds
from meshwright_common.encryption import open_key_ring
from meshwright_common.quotas import Quotas
from meshwright_common.registry.load import CallTally, LoadMeter
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.postgres import open_database
from meshwright_orchestrator.adapters.cel import Cel
from meshwright_orchestrator.adapters.defined_agents import DefinedAgentShelf
from meshwright_orchestrator.adapters.memory_client import MemoryClient
from meshwright_orchestrator.adapters.model_client import ModelClient
from meshwright_orchestrator.adapters.neighbourhood import MeshNeighbourhood
from meshwright_orchestrator.adapters.news import TaskNews
from meshwright_orchestrator.adapters.postgres_agents import PostgresAgents
from meshwright_orchestrator.adapters.postgres_backlog import PostgresBacklog
from meshwright_orchestrator.adapters.postgres_interrupts import PostgresInterrupts
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.postgres_waits import PostgresWaits
from meshwright_orchestrator.adapters.rag_client import RagClient
from meshwright_orchestrator.adapters.stored_data import stored_data
from meshwright_orchestrator.adapters.tool_client import ToolClient
from meshwright_orchestrator.agents.catalogue import BUILTIN
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.agents import SUMMARY, AgentType
from meshwright_orchestrator.domain.backlog import Backlog
from meshwright_orchestrator.domain.children import ChildTasks
from meshwright_orchestrator.domain.defining import AgentDesk
from meshwright_orchestrator.domain.models import Limits
from meshwright_orchestrator.domain.people import PeopleDesk
from meshwright_orchestrator.domain.replaying import ReplayDesk
from meshwright_orchestrator.domain.retries import Patience, Retries
from meshwright_orchestrator.domain.runner import Engine, NoopEngine, Others
from meshwright_orchestrator.domain.summary_engine import SummaryEngine
from meshwright_orchestrator.domain.tasks import TaskDesk, Watching
from meshwright_orchestrator.domain.waiting_room import WaitingRoom
from meshwright_orchestrator.domain.workbench import Peers
from meshwright_orchestrator.domain.workflows.step_tasks import (
    APPROVAL_STEP,
    TOOL_STEP,
    ApprovalStepEngine,
    ToolStepEngine,
)
from meshwright_orchestrator.domain.workshop import Pace, Workshop
from meshwright_orchestrator.langgraph.agent import GraphEngine
from meshwright_orchestrator.langgraph.registry import GraphRegistry
from meshwright_orchestrator.remote_parts import remote_parts
from meshwright_orchestrator.schedule_parts import schedule_parts
from meshwright_orchestrator.servicers.agent import AgentServicer
from meshwright_orchestrator.servicers.agent_definitions import DefinitionCalls
from meshwright_orchestrator.servicers.agent_registry import AgentRegistryServicer
from meshwright_orchestrator.servicers.workflow import WorkflowServicer
from meshwright_orchestrator.settings import OrchestratorSection, Settings
from meshwright_orchestrator.workers.dispatcher import Dispatcher
from meshwright_orchestrator.workers.metrics import TASKS_RUNNING
from meshwright_orchestrator.workers.status import StatusTeller
from meshwright_orchestrator.workers.traced_runner import TracedRunner
from meshwright_orchestrator.workers.waits import WaitSweeper
from meshwright_orchestrator.workers.worker import Worker
from meshwright_orchestrator.workflow_parts import workflow_parts

AGENT_SERVICE = "meshwright.orchestrator.v1.AgentService"
AGENT_REGISTRY_SERVICE = "meshwright.orchestrator.v1.AgentRegistryService"
KINDS = tuple(kind.value for kind in AgentType)
WORKFLOW_SERVICE = "meshwright.orchestrator.v1.WorkflowService"


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened."""
    section = settings.orchestrator
    async with (
        open_database(settings.database, settings.service) as database,
        open_key_ring(settings.encryption, database) as ring,
        open_dispatch(settings.dispatch, database, KINDS) as dispatch,
        aclosing(Cel()) as cel,
    ):
        clock = SystemClock()
        tasks = PostgresTasks(
            database,
            ring,
            lease_seconds=section.task_lease_seconds,
            default_seconds=section.task_seconds,
        )
        peers = Peers(
            retriever=RagClient(RetrievalServiceStub(channels.open("rag"))),
            models=ModelClient(ModelServiceStub(channels.open("model-router"))),
            tools=ToolClient(ToolServiceStub(channels.open("tool-exec"))),
            memory=MemoryClient(
                MemoryServiceStub(channels.open("session")),
                recall_seconds=section.memory_seconds,
            ),
        )
        registry = GraphRegistry()
        unlisted: dict[str, Engine] = {
            TOOL_STEP: ToolStepEngine(),
            APPROVAL_STEP: ApprovalStepEngine(),
        }
        if section.noop_agent:
            unlisted["noop"] = NoopEngine()
        defined = PostgresAgents(database, ring)
        shelf = DefinedAgentShelf(database, ring, defined, BUILTIN)
        joined = remote_parts(database, ring, channels, dispatch.board, clock, section)
        directory = AgentDirectory(BUILTIN, registry, (SUMMARY, *unlisted), shelf, joined.instances)
        unlisted[SUMMARY] = SummaryEngine(peers.memory, directory)
        agent_desk = AgentDesk(directory, defined, _neighbourhood(channels))
        waits = PostgresWaits(database, ring, question_seconds=section.question_seconds)
        runner = TracedRunner(
            tasks=tasks,
            room=WaitingRoom(waits, ChildTasks(directory, _limits(section))),
            agents=directory,
            others=Others(GraphEngine(registry), joined.engine),
            max_attempts=section.max_attempts,
            retries=_retries(section),
            unlisted=unlisted,
        )
        workshop = Workshop(
            tasks=tasks, waits=waits, runner=runner, peers=peers, pace=_pace(section)
        )
        TASKS_RUNNING.set_function(lambda: section.max_running_tasks - workshop.room)
        backlog = Backlog(section.backlog_limit)
        runs_begun = asyncio.Event()

        def changed() -> None:
            backlog.stirred()
            runs_begun.set()

        news = TaskNews(
            database,
            began=workshop.look_at_leases,
            changed=changed,
            cancelled=workshop.cancel_soon,
        )
        sweeper = WaitSweeper(waits, backlog.stirred, every_seconds=section.wait_sweep_seconds)
        dispatcher = Dispatcher(
            PostgresBacklog(database, ring),
            backlog,
            dispatch.queue,
            interactive_seconds=section.interactive_seconds,
            redispatch_seconds=section.redispatch_seconds,
            most_of_lane=section.dispatch_window,
        )
        tally = CallTally()
        worker = Worker(tasks, workshop, dispatch.queue, tally, slots=section.worker_slots)
        meter = LoadMeter(lambda: tally.running, tally.error_rate)
        teller = StatusTeller(dispatch.board, meter, every_seconds=section.status_seconds)
        people_directory = DirectoryServiceStub(channels.open("session"))
        quotas = Quotas(people_directory, settings.service, settings.quotas)
        desk = TaskDesk(
            tasks=tasks,
            workshop=workshop,
            agents=directory,
            backlog=backlog,
            quotas=quotas,
            limits=_limits(section),
            watching=Watching(waits, news, section.poll_seconds),
        )

        replays = ReplayDesk(desk, tasks, directory)
        people = PeopleDesk(desk, PostgresInterrupts(database, ring), backlog.grew)

        workflows = workflow_parts(
            database,
            ring,
            tasks,
            cel=cel,
            quotas=quotas,
            door=desk,
            calls=workshop,
            started=backlog.stirred,
            begun=runs_begun,
            hold_seconds=section.task_lease_seconds,
            retention_days=section.retention_days,
        )
        schedules = schedule_parts(
            database,
            ring,
            tasks,
            workflows=workflows.starts,
            workflow_runs=workflows.starts,
            directory=people_directory,
            quotas=quotas,
            desk=desk,
            agents=directory,
            backlog=backlog,
            clock=clock,
            most=section.max_schedules,
        )

        def register(server: grpc.aio.Server) -> None:
            add_AgentServiceServicer_to_server(AgentServicer(desk, people, replays, clock), server)
            add_AgentRegistryServiceServicer_to_server(
                AgentRegistryServicer(
                    directory, peers.tools, DefinitionCalls(agent_desk), joined.calls(directory)
                ),
                server,
            )
            add_WorkflowServiceServicer_to_server(
                WorkflowServicer(workflows.desk, schedules.calls), server
            )

        async def drain() -> None:
            await workshop.drain(section.drain_seconds)

        yield App(
            name=settings.service,
            register=register,
            service_names=(AGENT_SERVICE, AGENT_REGISTRY_SERVICE, WORKFLOW_SERVICE),
            tasks=(
                BackgroundTask("task-leases", workshop.keep_leases),
                BackgroundTask("lost-tasks", workshop.take_over_lost),
                BackgroundTask("old-tasks", workshop.forget_old),
                BackgroundTask("task-news", news.run),
                BackgroundTask("due-waits", sweeper.run),
                BackgroundTask("dispatcher", dispatcher.run),
                BackgroundTask("backlog", dispatcher.keep_count),
                BackgroundTask("worker", worker.run, worker.stop, apart=True),
                BackgroundTask("agent-status", teller.run, teller.stop, apart=True),
                joined.task,
                schedules.task,
                *workflows.tasks,
            ),
            checks=(Check("database", database.probe),),
            drain=drain,
            stores=stored_data(database),
        )


def _neighbourhood(channels: Channels) -> MeshNeighbourhood:
    router = channels.open("model-router")
    return MeshNeighbourhood(
        ToolServiceStub(channels.open("tool-exec")),
        ModelServiceStub(router),
        GuardServiceStub(router),
    )


def _limits(section: OrchestratorSection) -> Limits:
    return Limits(
        max_steps=section.max_steps,
        history_tokens=section.history_tokens,
        recall_top_k=section.recall_top_k,
        memory_top_k=section.memory_top_k,
    )


def _retries(section: OrchestratorSection) -> Retries:
    return Retries(
        section.task_retries,
        retry_delay_seconds,
        patient=Patience(section.away_seconds, first_seconds=1.0, longest_seconds=8.0),
        awaited=Patience(section.awaited_away_seconds, first_seconds=0.2, longest_seconds=2.0),
    )


def _pace(section: OrchestratorSection) -> Pace:
    return Pace(
        lease_seconds=section.task_lease_seconds,
        renew_seconds=section.lease_renew_seconds,
        sweep_seconds=section.sweep_seconds,
        max_running=section.max_running_tasks,
        retention_days=section.retention_days,
        away_seconds=section.away_seconds,
    )
