"""Tasks as streams; agents and tasks as JSON."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Response

from meshwright.orchestrator.v1 import agent_registry_service_pb2, agent_service_pb2, task_pb2
from meshwright_common.context import bind
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.ids import new_id, parse_id
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.http import sse
from meshwright_gateway.http.chat import event_stream
from meshwright_gateway.http.cursors import cursor
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.paging import (
    API_PREFIX,
    IdempotencyKey,
    IdPath,
    NamePath,
    PageSize,
    PageToken,
)
from meshwright_gateway.http.presence import EventStream, LongAnswers
from meshwright_gateway.http.schemas import agents as agent_schemas
from meshwright_gateway.http.schemas import work as schemas
from meshwright_gateway.http.task_feed import TaskFeed, WatchFeed
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.settings import GatewaySection
from meshwright_gateway.wire import values
from meshwright_gateway.wire.agents import agent_view, define_request, version_view
from meshwright_gateway.wire.work import (
    TASK_STATES,
    execute_request,
    submit_request,
    task_view,
)

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import (
        AgentRegistryServiceAsyncStub,
    )
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

_CANCEL_SECONDS: Final = 5.0
_logger = get_logger(__name__)

AgentName = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,64}$")]
StateName = Literal["queued", "running", "waiting", "completed", "failed", "cancelled", "expired"]


class TaskStreams:
    """Runs tasks, and streams the events of these and others."""

    def __init__(self, peers: Peers, answers: LongAnswers, settings: GatewaySection) -> None:
        self._agents = peers.agents
        self._answers = answers
        self._settings = settings

    async def execute(self, exchange: Exchange) -> None:
        """Start a task, or follow the one of the same Idempotency-Key, to its end."""
        content = await exchange.read_json_object(
            self._settings.json_limit_bytes, self._settings.body_timeout_seconds
        )
        body = validated(schemas.ExecuteRequest, content)
        # A key of our own lets a call that met its deadline be taken up by the next one.
        feed = TaskFeed(self._agents, execute_request(body, exchange.idempotency_key() or new_id()))
        cancels = body.on_disconnect == "cancel"
        stream = event_stream(exchange, self._answers)
        stream.deferred = cancels
        with bind(exchange.call_context(None)):
            async with stream, aclosing(feed.events()) as events:
                first = await anext(events, None)
                if first is None:
                    raise Unavailable("the task gave no event")
                stream.raise_if_left()
                stream.headers.append(
                    (b"content-location", f"/api/v1/tasks/{first.task_id}".encode())
                )
                await _send(stream, first)
                async for event in events:
                    await _send(stream, event)
            if stream.left and cancels and feed.task_id:
                await self._cancel(feed.task_id)

    async def events(self, exchange: Exchange, task_id: str) -> None:
        """Stream the events of a task after the last checkpoint that the client saw."""
        task_id = parse_id(task_id, "task_id")
        feed = WatchFeed(self._agents, task_id, cursor(exchange, task_id))
        stream = event_stream(exchange, self._answers, opens_early=True)
        with bind(exchange.call_context(None)):
            async with stream, aclosing(feed.events()) as events:
                async for event in events:
                    await stream.send(sse.task_frame(event))

    async def _cancel(self, task_id: str) -> None:
        request = agent_service_pb2.CancelTaskRequest(task_id=task_id)
        try:
            await self._agents.CancelTask(request, timeout=_CANCEL_SECONDS)
        except ServiceError as error:
            _logger.warning("cancel_failed", task_id=task_id, reason=error.reason)


async def _send(stream: EventStream, event: task_pb2.TaskEvent) -> None:
    frame = sse.task_frame(event)
    if event.WhichOneof("event") in sse.TASK_ENDS:
        await stream.send_last(frame)
    else:
        await stream.send(frame)


def agents_router(registry: "AgentRegistryServiceAsyncStub") -> APIRouter:
    """Return the routes about agents."""
    router = APIRouter(prefix=f"{API_PREFIX}/agents", tags=["agents"])

    @router.get("")
    async def list_agents(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> agent_schemas.AgentList:
        """Agents that the tenant may use, by name."""
        answer = await registry.ListAgents(
            agent_registry_service_pb2.ListAgentsRequest(
                page=values.page_request(page_size, page_token)
            )
        )
        return agent_schemas.AgentList(
            agents=[agent_view(agent) for agent in answer.agents],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/{name}")
    async def get_agent(name: NamePath) -> agent_schemas.Agent:
        """One agent, with the definition of its newest version in use, or its instances."""
        answer = await registry.GetAgent(agent_registry_service_pb2.GetAgentRequest(name=name))
        return agent_view(answer.agent, answer.instances)

    @router.put("/{name}")
    async def define_agent(
        name: AgentName, body: agent_schemas.AgentDefine, idempotency_key: IdempotencyKey = ""
    ) -> agent_schemas.AgentVersion:
        """Define an agent, or its next version. In force everywhere when answered; tasks keep the
        version that they were accepted for. The newest version's own definition makes no new
        version, but gives that one its share of the traffic."""
        answer = await registry.DefineAgent(define_request(name, body, idempotency_key))
        return version_view(answer.version)

    @router.get("/{name}/versions")
    async def list_agent_versions(
        name: NamePath, page_size: PageSize = None, page_token: PageToken = ""
    ) -> agent_schemas.AgentVersionList:
        """Versions of a defined agent, newest first."""
        answer = await registry.ListAgentVersions(
            agent_registry_service_pb2.ListAgentVersionsRequest(
                name=name, page=values.page_request(page_size, page_token)
            )
        )
        return agent_schemas.AgentVersionList(
            versions=[version_view(one) for one in answer.versions],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("/{name}/rollback")
    async def roll_back_agent(
        name: NamePath, body: agent_schemas.AgentRollback
    ) -> agent_schemas.Agent:
        """Give a version all new tasks. Later ones stay, and can be returned to the same way."""
        answer = await registry.RollbackAgent(
            agent_registry_service_pb2.RollbackAgentRequest(name=name, version=body.version)
        )
        return agent_view(answer.agent)

    return router


def tasks_router(agents: "AgentServiceAsyncStub") -> APIRouter:
    """Return the routes about tasks."""
    router = APIRouter(prefix=f"{API_PREFIX}/tasks", tags=["tasks"])

    @router.get("")
    async def list_tasks(
        state: Annotated[
            list[StateName] | None, Query(description="Only these states. Absent: all.")
        ] = None,
        session_id: Annotated[str, Query(max_length=64)] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.TaskList:
        """Tasks of the tenant, newest first."""
        answer = await agents.ListTasks(
            agent_service_pb2.ListTasksRequest(
                page=values.page_request(page_size, page_token),
                states=[TASK_STATES[name] for name in state or ()],
                session_id=session_id,
            )
        )
        return schemas.TaskList(
            tasks=[task_view(task) for task in answer.tasks],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=202)
    async def submit_task(
        body: schemas.TaskSubmission, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Task:
        """Hand work to the workers. Answered when it is stored: it will be done, or expire."""
        answer = await agents.SubmitTask(submit_request(body, idempotency_key))
        response.headers["location"] = f"{API_PREFIX}/tasks/{answer.task.task_id}"
        return task_view(answer.task)

    @router.get("/{task_id}")
    async def get_task(task_id: IdPath) -> schemas.Task:
        """One task."""
        answer = await agents.GetTask(agent_service_pb2.GetTaskRequest(task_id=task_id))
        return task_view(answer.task)

    @router.get("/{task_id}/replay")
    async def replay_task(task_id: IdPath) -> schemas.TaskReplay:
        """Run what is journaled of a task through the decider of today. Nothing is called."""
        answer = await agents.ReplayTask(agent_service_pb2.ReplayTaskRequest(task_id=task_id))
        return schemas.TaskReplay(
            identical=answer.identical, first_difference=answer.first_difference
        )

    @router.post("/{task_id}/cancel")
    async def cancel_task(task_id: IdPath) -> schemas.Task:
        """Cancel a task. Answers when nothing more of it can happen; a final one stays as it is."""
        answer = await agents.CancelTask(agent_service_pb2.CancelTaskRequest(task_id=task_id))
        return task_view(answer.task)

    return router
