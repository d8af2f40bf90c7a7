"""Servicers that stand for the services behind the routes that answer in one piece."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceServicer
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceServicer
from meshwright.session.v1 import (
    audit_service_pb2,
    notification_pb2,
    notification_service_pb2,
    session_pb2,
    session_service_pb2,
    usage_service_pb2,
)
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceServicer
from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceServicer
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceServicer
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceServicer
from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceServicer
from meshwright.types.v1 import message_pb2, page_pb2, usage_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id

Context = grpc.aio.ServicerContext[Any, Any]


class Sessions(SessionServiceServicer):
    """Keeps the latest session and every request."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.session = session_pb2.Session(session_id=new_id(), title="old", etag="1")

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: Context
    ) -> session_service_pb2.CreateSessionResponse:
        self.requests.append(request)
        self.session.MergeFrom(request.session)
        return session_service_pb2.CreateSessionResponse(session=self.session)

    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, context: Context
    ) -> session_service_pb2.UpdateSessionResponse:
        self.requests.append(request)
        return session_service_pb2.UpdateSessionResponse(session=self.session)

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: Context
    ) -> session_service_pb2.ListSessionsResponse:
        self.requests.append(request)
        return session_service_pb2.ListSessionsResponse(
            sessions=[self.session], page=page_pb2.PageInfo(next_page_token="more")
        )

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: Context
    ) -> session_service_pb2.DeleteSessionResponse:
        self.requests.append(request)
        return session_service_pb2.DeleteSessionResponse()

    async def ListMessages(
        self, request: session_service_pb2.ListMessagesRequest, context: Context
    ) -> session_service_pb2.ListMessagesResponse:
        self.requests.append(request)
        said = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT)
        said.parts.add(text="4")
        said.parts.add(text="2")
        said.tool_calls.add(id="c1", name="calculator", arguments_json="{}")
        stored = session_pb2.StoredMessage(message_id=new_id(), sequence=2, message=said)
        return session_service_pb2.ListMessagesResponse(messages=[stored])


class Agents(AgentServiceServicer):
    """Runs a task as its events say, and breaks once where it is told to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.events: list[task_pb2.TaskEvent] = []
        self.error: ServiceError | None = None
        self.gate: asyncio.Event | None = None
        self.cancelled: list[str] = []
        self.task = task_pb2.Task(task_id=new_id(), state=task_pb2.TASK_STATE_RUNNING, attempt=1)

    async def ExecuteTask(
        self, request: agent_service_pb2.ExecuteTaskRequest, context: Context
    ) -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        self.requests.append(request)
        for sequence, event in enumerate(self.events, start=1):
            event.task_id, event.sequence, event.attempt = self.task.task_id, sequence, 1
            yield agent_service_pb2.ExecuteTaskResponse(event=event)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def SubmitTask(
        self, request: agent_service_pb2.SubmitTaskRequest, context: Context
    ) -> agent_service_pb2.SubmitTaskResponse:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return agent_service_pb2.SubmitTaskResponse(task=self.task)

    async def WatchTask(
        self, request: agent_service_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[agent_service_pb2.WatchTaskResponse]:
        self.requests.append(request)
        error, self.error = self.error, None
        for sequence, event in enumerate(self.events, start=1):
            if sequence <= request.after_sequence:
                continue
            event.task_id, event.sequence, event.attempt = request.task_id, sequence, 1
            yield agent_service_pb2.WatchTaskResponse(event=event)
            if error is not None:
                raise error

    async def GetTask(
        self, request: agent_service_pb2.GetTaskRequest, context: Context
    ) -> agent_service_pb2.GetTaskResponse:
        self.requests.append(request)
        return agent_service_pb2.GetTaskResponse(task=self.task)

    async def ListTasks(
        self, request: agent_service_pb2.ListTasksRequest, context: Context
    ) -> agent_service_pb2.ListTasksResponse:
        self.requests.append(request)
        return agent_service_pb2.ListTasksResponse(tasks=[self.task])

    async def CancelTask(
        self, request: agent_service_pb2.CancelTaskRequest, context: Context
    ) -> agent_service_pb2.CancelTaskResponse:
        self.cancelled.append(request.task_id)
        return agent_service_pb2.CancelTaskResponse(task=self.task)

    async def ListInterrupts(
        self, request: agent_service_pb2.ListInterruptsRequest, context: Context
    ) -> agent_service_pb2.ListInterruptsResponse:
        self.requests.append(request)
        asked = [
            agent_service_pb2.OpenInterrupt(
                interrupt=interrupt, task_id=self.task.task_id, agent="clerk"
            )
            for interrupt in self.task.interrupts
        ]
        return agent_service_pb2.ListInterruptsResponse(interrupts=asked)

    async def ResumeTask(
        self, request: agent_service_pb2.ResumeTaskRequest, context: Context
    ) -> agent_service_pb2.ResumeTaskResponse:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return agent_service_pb2.ResumeTaskResponse(task=self.task)


class AgentRegistry(AgentRegistryServiceServicer):
    """Knows one agent."""

    async def ListAgents(
        self, request: agent_registry_service_pb2.ListAgentsRequest, context: Context
    ) -> agent_registry_service_pb2.ListAgentsResponse:
        agent = agent_pb2.Agent(
            name="rag", type=agent_pb2.AGENT_TYPE_TOOL_CALL, builtin=True, version=1
        )
        return agent_registry_service_pb2.ListAgentsResponse(agents=[agent])


class Tools(ToolServiceServicer):
    """Knows one tool, which answers with its arguments."""

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: Context
    ) -> tool_service_pb2.ListToolsResponse:
        tool = tool_pb2.Tool(
            name="echo", source=tool_pb2.TOOL_SOURCE_BUILTIN, effect=tool_pb2.TOOL_EFFECT_READ_ONLY
        )
        tool.input_schema.update({"type": "object", "maxProperties": 3})
        return tool_service_pb2.ListToolsResponse(tools=[tool])

    async def ExecuteTool(
        self, request: tool_service_pb2.ExecuteToolRequest, context: Context
    ) -> AsyncIterator[tool_service_pb2.ExecuteToolResponse]:
        started = tool_pb2.ToolEvent(started=tool_pb2.ToolStarted(call_id="call-1"))
        yield tool_service_pb2.ExecuteToolResponse(event=started)
        outcome = tool_pb2.ToolOutcome(
            result_json=request.arguments_json,
            is_error=request.name == "broken",
            citations_json=['{"number": 1}'],
        )
        yield tool_service_pb2.ExecuteToolResponse(event=tool_pb2.ToolEvent(outcome=outcome))


class Usage(UsageServiceServicer):
    """Keeps a ledger of `rows`, and breaks after them if told to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.rows: list[usage_service_pb2.ExportRowsResponse] = []
        self.error: ServiceError | None = None

    async def QueryUsage(
        self, request: usage_service_pb2.QueryUsageRequest, context: Context
    ) -> usage_service_pb2.QueryUsageResponse:
        self.requests.append(request)
        row = usage_service_pb2.UsageSum(
            day="2026-01-31", call_count=3, usage=usage_pb2.TokenUsage(prompt_tokens=2**40)
        )
        return usage_service_pb2.QueryUsageResponse(sums=[row])

    async def QueryTaskStatistics(
        self, request: usage_service_pb2.QueryTaskStatisticsRequest, context: Context
    ) -> usage_service_pb2.QueryTaskStatisticsResponse:
        self.requests.append(request)
        row = usage_service_pb2.TaskStatistics(
            day="2026-01-31", agent="rag", state="failed", task_count=3
        )
        row.total_duration.FromMilliseconds(61_500)
        return usage_service_pb2.QueryTaskStatisticsResponse(
            statistics=[row], page=page_pb2.PageInfo(next_page_token="more")
        )

    async def ExportRows(
        self, request: usage_service_pb2.ExportRowsRequest, context: Context
    ) -> AsyncIterator[usage_service_pb2.ExportRowsResponse]:
        self.requests.append(request)
        for row in self.rows:
            yield row
        if self.error is not None:
            raise self.error


class Audit(AuditServiceServicer):
    """Knows one record."""

    async def QueryAudit(
        self, request: audit_service_pb2.QueryAuditRequest, context: Context
    ) -> audit_service_pb2.QueryAuditResponse:
        record = audit_service_pb2.AuditRecord(
            sequence=1, action=request.action_prefix + "uploaded", hash=b"\xab" * 32
        )
        return audit_service_pb2.QueryAuditResponse(records=[record])

    async def VerifyAudit(
        self, request: audit_service_pb2.VerifyAuditRequest, context: Context
    ) -> audit_service_pb2.VerifyAuditResponse:
        return audit_service_pb2.VerifyAuditResponse(
            valid=True, first_sequence=7, checkpoint_count=2
        )

    async def ListCheckpoints(
        self, request: audit_service_pb2.ListCheckpointsRequest, context: Context
    ) -> audit_service_pb2.ListCheckpointsResponse:
        checkpoint = audit_service_pb2.AuditCheckpoint(
            number=1, document='{"number":1}', signature=b"\xcd" * 64
        )
        return audit_service_pb2.ListCheckpointsResponse(checkpoints=[checkpoint])

    async def ListSigningKeys(
        self, request: audit_service_pb2.ListSigningKeysRequest, context: Context
    ) -> audit_service_pb2.ListSigningKeysResponse:
        key = audit_service_pb2.SigningKey(key_id="k1", public_key="-----BEGIN")
        return audit_service_pb2.ListSigningKeysResponse(keys=[key])


class Notifications(NotificationServiceServicer):
    """Has `told`. A watch breaks as often as `breaks` says and then waits for ever."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.told: list[notification_pb2.Notification] = []
        self.breaks: list[ServiceError] = []
        self.refusal: ServiceError | None = None
        self.watching = 0

    def tell(self, title: str) -> notification_pb2.Notification:
        """Add a notification."""
        notification = notification_pb2.Notification(
            notification_id=new_id(), kind="task.completed", title=title, resource="task/1"
        )
        notification.details.update({"task_id": "1", "steps": 3})
        notification.create_time.GetCurrentTime()
        self.told.append(notification)
        return notification

    async def ListNotifications(
        self, request: notification_service_pb2.ListNotificationsRequest, context: Context
    ) -> notification_service_pb2.ListNotificationsResponse:
        self.requests.append(request)
        return notification_service_pb2.ListNotificationsResponse(
            notifications=self.told[::-1], page=page_pb2.PageInfo(next_page_token="more")
        )

    async def MarkNotificationsRead(
        self, request: notification_service_pb2.MarkNotificationsReadRequest, context: Context
    ) -> notification_service_pb2.MarkNotificationsReadResponse:
        self.requests.append(request)
        return notification_service_pb2.MarkNotificationsReadResponse(marked_count=2)

    async def WatchNotifications(
        self, request: notification_service_pb2.WatchNotificationsRequest, context: Context
    ) -> AsyncIterator[notification_service_pb2.WatchNotificationsResponse]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        ids = [one.notification_id for one in self.told]
        first = ids.index(request.after_id) + 1 if request.after_id in ids else 0
        self.watching += 1
        try:
            for one in self.told[first:]:
                yield notification_service_pb2.WatchNotificationsResponse(notification=one)
                if self.breaks:
                    raise self.breaks.pop()
            await asyncio.Event().wait()
        finally:
            self.watching -= 1
