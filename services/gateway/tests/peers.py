"""Small servicers that stand for the services behind the gateway, on a real local server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc.aio

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import (
    ChatServiceServicer,
    add_ChatServiceServicer_to_server,
)
from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import (
    add_AgentRegistryServiceServicer_to_server,
)
from meshwright.orchestrator.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from meshwright.rag.v1.knowledge_service_pb2_grpc import add_KnowledgeServiceServicer_to_server
from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.session.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from meshwright.session.v1.directory_service_pb2_grpc import (
    DirectoryServiceServicer,
    add_DirectoryServiceServicer_to_server,
)
from meshwright.session.v1.notification_service_pb2_grpc import (
    add_NotificationServiceServicer_to_server,
)
from meshwright.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from meshwright.session.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from meshwright.tool_exec.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from meshwright.types.v1 import message_pb2, principal_pb2, usage_pb2
from meshwright_common.context import MESH_INTERNAL, Principal, principal
from meshwright_common.errors import (
    NotFound,
    OutOfRange,
    ServiceError,
    Unauthenticated,
)
from meshwright_common.identity import api_keys
from meshwright_common.ids import new_id
from services.gateway.tests.knowledge_peer import Knowledge
from services.gateway.tests.more_peers import (
    AgentRegistry,
    Agents,
    Audit,
    Notifications,
    Sessions,
    Tools,
    Usage,
)

Context = grpc.aio.ServicerContext[Any, Any]
USAGE = usage_pb2.TokenUsage(prompt_tokens=7, completion_tokens=5, cached_tokens=2)


class Directory(DirectoryServiceServicer):
    """Knows API keys by their digest."""

    def __init__(self) -> None:
        self.look_ups = 0
        self.plan: tenant_pb2.Plan.ValueType = tenant_pb2.PLAN_ENTERPRISE
        self.callers: list[Principal] = []
        self.error: ServiceError | None = None
        self.gate: asyncio.Event | None = None
        self._holders: dict[bytes, Principal] = {}

    def give_key(self, holder: Principal) -> str:
        key = api_keys.generate()
        self._holders[key.sha256] = holder
        return key.plain

    def revoke(self, plain: str) -> None:
        del self._holders[api_keys.digest(plain)]

    def narrow(self, holder: Principal, *permissions: str) -> None:
        """Take all other rights from a user and all keys that act as it."""
        narrower = replace(holder, permissions=frozenset(permissions))
        for digest, one in self._holders.items():
            if one.subject == holder.subject:
                self._holders[digest] = narrower

    def disable(self, holder: Principal) -> None:
        """Refuse all that a user has."""
        for digest, one in list(self._holders.items()):
            if one.subject == holder.subject:
                del self._holders[digest]

    async def GetQuota(
        self, request: directory_service_pb2.GetQuotaRequest, context: Context
    ) -> directory_service_pb2.GetQuotaResponse:
        if self.error is not None:
            raise self.error
        return directory_service_pb2.GetQuotaResponse(
            plan=self.plan, state=tenant_pb2.TENANT_STATE_ACTIVE
        )

    async def ConfirmUser(
        self, request: directory_service_pb2.ConfirmUserRequest, context: Context
    ) -> directory_service_pb2.ConfirmUserResponse:
        assert principal().has(MESH_INTERNAL)
        if self.error is not None:
            raise self.error
        for holder in self._holders.values():
            if (holder.tenant_id, holder.subject) == (request.tenant_id, request.user_id):
                return directory_service_pb2.ConfirmUserResponse(principal=_message(holder))
        raise Unauthenticated("no such user")

    async def AuthenticateApiKey(
        self, request: directory_service_pb2.AuthenticateApiKeyRequest, context: Context
    ) -> directory_service_pb2.AuthenticateApiKeyResponse:
        self.look_ups += 1
        self.callers.append(principal())
        assert principal().has(MESH_INTERNAL)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        holder = self._holders.get(request.api_key_sha256)
        if holder is None:
            raise Unauthenticated("no such key")
        return directory_service_pb2.AuthenticateApiKeyResponse(
            principal=_message(holder), api_key_id=new_id()
        )


def _message(holder: Principal) -> principal_pb2.Principal:
    return principal_pb2.Principal(
        tenant_id=holder.tenant_id,
        subject=holder.subject,
        kind=principal_pb2.PRINCIPAL_KIND_USER,
        permissions=sorted(holder.permissions),
        roles=holder.roles,
    )


@dataclass
class Script:
    """How a turn goes: its events, where it waits, where its stream breaks."""

    events: list[turn_pb2.TurnEvent]
    waits_before: dict[int, asyncio.Event] = field(default_factory=dict)
    breaks_after: dict[int, ServiceError | None] = field(default_factory=dict)


class Chat(ChatServiceServicer):
    """Plays turns. A stream that breaks breaks once; the next one goes on."""

    def __init__(self) -> None:
        self.script: Callable[[str, chat_service_pb2.StreamChatRequest], Script] = plain_script
        self.requests: list[chat_service_pb2.StreamChatRequest] = []
        self.callers: list[Principal] = []
        self.subscriptions: list[chat_service_pb2.SubscribeTurnRequest] = []
        self.cancelled: list[str] = []
        self.error: ServiceError | None = None
        self.follow_error: ServiceError | None = None
        self.open_streams = 0
        self._turns: dict[str, Script] = {}

    def add_turn(self, script: Callable[[str], Script]) -> str:
        turn_id = new_id()
        self._turns[turn_id] = script(turn_id)
        return turn_id

    async def StreamChat(
        self, request: chat_service_pb2.StreamChatRequest, context: Context
    ) -> AsyncIterator[chat_service_pb2.StreamChatResponse]:
        self.requests.append(request)
        self.callers.append(principal())
        if self.error is not None:
            raise self.error
        turn_id = new_id()
        self._turns[turn_id] = self.script(turn_id, request)
        async for event in self._play(turn_id, 0):
            yield chat_service_pb2.StreamChatResponse(event=event)

    async def SubscribeTurn(
        self, request: chat_service_pb2.SubscribeTurnRequest, context: Context
    ) -> AsyncIterator[chat_service_pb2.SubscribeTurnResponse]:
        self.subscriptions.append(request)
        if self.follow_error is not None:
            raise self.follow_error
        script = self._turns.get(request.turn_id)
        if script is None:
            error = NotFound("there is no turn with this id")
            error.reason = "TURN_NOT_FOUND"
            raise error
        if request.after_sequence > len(script.events):
            beyond = OutOfRange("beyond the end")
            beyond.reason = "CURSOR_EXPIRED"
            raise beyond
        async for event in self._play(request.turn_id, request.after_sequence):
            yield chat_service_pb2.SubscribeTurnResponse(event=event)

    async def CancelTurn(
        self, request: chat_service_pb2.CancelTurnRequest, context: Context
    ) -> chat_service_pb2.CancelTurnResponse:
        self.cancelled.append(request.turn_id)
        turn = turn_pb2.Turn(turn_id=request.turn_id, state=turn_pb2.TURN_STATE_CANCELLED)
        return chat_service_pb2.CancelTurnResponse(turn=turn)

    async def _play(self, turn_id: str, after: int) -> AsyncIterator[turn_pb2.TurnEvent]:
        script = self._turns[turn_id]
        self.open_streams += 1
        try:
            for event in script.events[after:]:
                gate = script.waits_before.get(event.sequence)
                if gate is not None:
                    await gate.wait()
                yield event
                if event.sequence in script.breaks_after:
                    error = script.breaks_after.pop(event.sequence)
                    if error is not None:
                        raise error
                    return
        finally:
            self.open_streams -= 1


def turn_events(turn_id: str, *texts: str) -> list[turn_pb2.TurnEvent]:
    """Return the events of a turn that says `texts` and cites one source."""
    started = turn_pb2.TurnEvent(
        started=turn_pb2.TurnStarted(session_id=new_id(), agent="rag"), attempt=1
    )
    deltas = [
        turn_pb2.TurnEvent(message_delta=turn_pb2.MessageDelta(text=text), attempt=1)
        for text in texts
    ]
    cited = turn_pb2.TurnEvent(
        citation=message_pb2.Citation(number=1, document_id=new_id(), quote="as it is", page=3)
    )
    completed = turn_pb2.TurnEvent(
        completed=turn_pb2.TurnCompleted(
            answer="".join(texts), message_id=new_id(), context_version=1, usage=USAGE
        )
    )
    return numbered(turn_id, [started, *deltas, cited, completed])


def numbered(turn_id: str, events: list[turn_pb2.TurnEvent]) -> list[turn_pb2.TurnEvent]:
    """Return the events with their turn and sequence."""
    for sequence, event in enumerate(events, start=1):
        event.turn_id, event.sequence, event.attempt = turn_id, sequence, 1
        event.time.GetCurrentTime()
    return events


def plain_script(turn_id: str, request: chat_service_pb2.StreamChatRequest) -> Script:
    """Return a turn that says the question back, word by word."""
    words = request.message.split(" ")
    texts = [word if position == 0 else " " + word for position, word in enumerate(words)]
    return Script(turn_events(turn_id, *texts))


class Models(ModelServiceServicer):
    """Says what it is told to, or wants a tool when one is offered."""

    def __init__(self) -> None:
        self.requests: list[model_service_pb2.GenerateRequest] = []
        self.embedded: list[int] = []
        self.texts = ["Hel", "lo \u2028 wor", "ld"]
        self.error: ServiceError | None = None
        self.fails_after: int | None = None
        self.gate: asyncio.Event | None = None
        self.endless = False
        self.produced_bytes = 0
        self.open_streams = 0

    async def Generate(
        self, request: model_service_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[model_service_pb2.GenerateResponse]:
        self.requests.append(request)
        if self.error is not None and self.fails_after is None:
            raise self.error
        self.open_streams += 1
        try:
            async for event in self._events(request):
                yield model_service_pb2.GenerateResponse(event=event)
        finally:
            self.open_streams -= 1

    async def _events(
        self, request: model_service_pb2.GenerateRequest
    ) -> AsyncIterator[generation_pb2.GenerateEvent]:
        started = generation_pb2.GenerateStarted(model=f"{request.model}-2026", deployment="d")
        if request.HasField("cache"):
            started.cache_status = generation_pb2.CACHE_STATUS_HIT
            started.cache_age.FromSeconds(7)
        yield generation_pb2.GenerateEvent(started=started)
        if self.gate is not None:
            await self.gate.wait()
        asked = request.messages[-1].role != message_pb2.ROLE_TOOL
        if request.tools and asked and request.tool_choice != generation_pb2.TOOL_CHOICE_NONE:
            name = request.tools[0].name
            for piece in (
                generation_pb2.ToolCallDelta(index=0, id="call_1", name=name),
                generation_pb2.ToolCallDelta(index=0, arguments_json='{"city":'),
                generation_pb2.ToolCallDelta(index=0, arguments_json='"Bonn"}'),
            ):
                yield generation_pb2.GenerateEvent(
                    delta=generation_pb2.GenerateDelta(tool_calls=[piece])
                )
            finished = generation_pb2.GenerateFinished(
                finish_reason=generation_pb2.FINISH_REASON_TOOL_CALLS, usage=USAGE
            )
            finished.tool_calls.add(id="call_1", name=name, arguments_json='{"city":"Bonn"}')
            yield generation_pb2.GenerateEvent(finished=finished)
            return
        for count, text in enumerate(self.texts):
            if count == self.fails_after and self.error is not None:
                raise self.error
            yield generation_pb2.GenerateEvent(delta=generation_pb2.GenerateDelta(text=text))
        while self.endless:
            self.produced_bytes += 2000
            yield generation_pb2.GenerateEvent(delta=generation_pb2.GenerateDelta(text="x" * 2000))
        yield generation_pb2.GenerateEvent(
            finished=generation_pb2.GenerateFinished(
                finish_reason=generation_pb2.FINISH_REASON_STOP, usage=USAGE
            )
        )

    async def Embed(
        self, request: model_service_pb2.EmbedRequest, context: Context
    ) -> model_service_pb2.EmbedResponse:
        self.embedded.append(len(request.texts))
        if self.gate is not None:
            self.open_streams += 1
            try:
                await self.gate.wait()
            finally:
                self.open_streams -= 1
        answer = model_service_pb2.EmbedResponse(model=request.model)
        answer.usage.prompt_tokens = len(request.texts)
        for text in request.texts:
            answer.embeddings.add(values=[float(len(text)), 0.5, -0.25])
        return answer

    async def Moderate(
        self, request: model_service_pb2.ModerateRequest, context: Context
    ) -> model_service_pb2.ModerateResponse:
        answer = model_service_pb2.ModerateResponse(model=request.model or "judge")
        for text in request.texts:
            score = 0.9 if "bad" in text else 0.1
            answer.results.add(flagged=score > 0.5).category_scores.update({"violence": score})
        return answer

    async def Rerank(
        self, request: model_service_pb2.RerankRequest, context: Context
    ) -> model_service_pb2.RerankResponse:
        """Score by the number of times that the query stands in the document."""
        answer = model_service_pb2.RerankResponse(model=request.model or "ranker")
        scored = [(one.count(request.query), index) for index, one in enumerate(request.documents)]
        best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
        for score, index in best[: request.top_n or len(best)]:
            answer.results.add(index=index, score=score)
        answer.usage.prompt_tokens = len(request.documents)
        return answer

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(
            models=[generation_pb2.Model(name="offline/small", provider="offline", generates=True)]
        )


@dataclass
class Peers:
    """All of them."""

    directory: Directory = field(default_factory=Directory)
    chat: Chat = field(default_factory=Chat)
    models: Models = field(default_factory=Models)
    knowledge: Knowledge = field(default_factory=Knowledge)
    sessions: Sessions = field(default_factory=Sessions)
    agents: Agents = field(default_factory=Agents)
    registry: AgentRegistry = field(default_factory=AgentRegistry)
    tools: Tools = field(default_factory=Tools)
    usage: Usage = field(default_factory=Usage)
    audit: Audit = field(default_factory=Audit)
    notifications: Notifications = field(default_factory=Notifications)

    def register(self, server: grpc.aio.Server) -> None:
        add_DirectoryServiceServicer_to_server(self.directory, server)
        add_ChatServiceServicer_to_server(self.chat, server)
        add_ModelServiceServicer_to_server(self.models, server)
        add_KnowledgeServiceServicer_to_server(self.knowledge, server)
        add_SessionServiceServicer_to_server(self.sessions, server)
        add_AgentServiceServicer_to_server(self.agents, server)
        add_AgentRegistryServiceServicer_to_server(self.registry, server)
        add_ToolServiceServicer_to_server(self.tools, server)
        add_UsageServiceServicer_to_server(self.usage, server)
        add_AuditServiceServicer_to_server(self.audit, server)
        add_NotificationServiceServicer_to_server(self.notifications, server)
