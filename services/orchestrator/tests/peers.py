"""Real servicers that stand for the orchestrator's peers: scripted, and they keep what they saw."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format, struct_pb2

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceServicer
from meshwright.rag.v1 import document_pb2, retrieval_service_pb2
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceServicer
from meshwright.session.v1 import memory_service_pb2, session_pb2
from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceServicer
from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceServicer
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_common.context import Principal, principal
from meshwright_common.errors import InvalidArgument, NotFound, ServiceError, Unavailable


class NoSuchBase(NotFound):
    """As rag says it."""

    reason = "KNOWLEDGE_BASE_NOT_FOUND"


class NoSuchTool(NotFound):
    """As tool-exec says it."""

    reason = "TOOL_NOT_FOUND"


class BadArguments(InvalidArgument):
    """As tool-exec says it."""

    reason = "TOOL_ARGUMENTS_INVALID"


class NoSuchModel(NotFound):
    """As the router says it."""

    reason = "MODEL_NOT_FOUND"


class ProviderAway(Unavailable):
    """As the router says it when a model's provider is away."""

    reason = "PROVIDER_UNAVAILABLE"


@dataclass(frozen=True)
class Say:
    """One answer of the model: pieces of text, then calls (name, arguments), or an error.

    `void`: pieces of a stream that broke before it.
    """

    pieces: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()
    reasoning: str = ""
    finish: Any = generation_pb2.FINISH_REASON_STOP
    error: ServiceError | None = None
    void: Sequence[str] = ()


async def no_gate(_: int) -> None:
    """Hold nothing back."""


@dataclass
class ScriptedModels(ModelServiceServicer):
    """Answers by script: how many messages of the model follow the question says which entry.

    `gate` is awaited before each piece, with how many of that answer went before. `scripts` are
    those of questions that begin with their names; `script` is for every other.
    """

    script: Sequence[Say] = (Say(["Hello."]),)
    scripts: Mapping[str, Sequence[Say]] = field(default_factory=dict)
    requests: list[model_service_pb2.GenerateRequest] = field(default_factory=list)
    callers: list[Principal] = field(default_factory=list)
    gate: Callable[[int], Any] = no_gate
    away: Collection[str] = ()
    mended: Say | None = None
    """What it says when its answer did not fit a schema. None: the same again."""
    ended: int = 0
    running: int = 0

    async def CountTokens(
        self, request: model_service_pb2.CountTokensRequest, context: Any
    ) -> model_service_pb2.CountTokensResponse:
        if request.model not in ("first", "second", "third"):
            raise NoSuchModel(f"there is no model named {request.model}")
        return model_service_pb2.CountTokensResponse(tokens=1)

    async def Generate(
        self, request: model_service_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[model_service_pb2.GenerateResponse]:
        self.requests.append(request)
        self.callers.append(principal())
        if request.model in self.away:
            raise ProviderAway
        say = self.mended if self.mended and _mends(request) else None
        script = self._script(question_of(request))
        say = say or script[min(_turns(request.messages), len(script) - 1)]
        self.running += 1
        try:
            for piece in say.void:
                yield _delta(text=piece)
            if say.void:
                yield _restarted()
            for response in [_delta(reasoning=say.reasoning)] if say.reasoning else []:
                yield response
            for index, piece in enumerate(say.pieces):
                await self.gate(index)
                yield _delta(text=piece)
            await self.gate(len(say.pieces))
            if say.error is not None:
                raise say.error
            yield _finished(say)
            self.ended += 1
        finally:
            self.running -= 1

    def _script(self, question: str) -> Sequence[Say]:
        fitting = (self.scripts[start] for start in self.scripts if question.startswith(start))
        return next(fitting, self.script)


def _mends(request: model_service_pb2.GenerateRequest) -> bool:
    return "What is wrong with it:" in request.messages[-1].parts[0].text


def question_of(request: model_service_pb2.GenerateRequest) -> str:
    """Return the last message of the user in a request."""
    asked = [one for one in request.messages if one.role == message_pb2.ROLE_USER]
    return "".join(part.text for part in asked[-1].parts)


def _turns(messages: Sequence[message_pb2.Message]) -> int:
    roles = [message.role for message in messages]
    last_question = len(roles) - 1 - roles[::-1].index(message_pb2.ROLE_USER)
    return roles[last_question:].count(message_pb2.ROLE_ASSISTANT)


def _delta(text: str = "", reasoning: str = "") -> model_service_pb2.GenerateResponse:
    delta = generation_pb2.GenerateDelta(text=text, reasoning=reasoning)
    return model_service_pb2.GenerateResponse(event=generation_pb2.GenerateEvent(delta=delta))


def _restarted() -> model_service_pb2.GenerateResponse:
    restarted = generation_pb2.GenerateRestarted(reason="PROVIDER_TRUNCATED", deployment="other")
    return model_service_pb2.GenerateResponse(
        event=generation_pb2.GenerateEvent(restarted=restarted)
    )


def _finished(say: Say) -> model_service_pb2.GenerateResponse:
    finished = generation_pb2.GenerateFinished(
        finish_reason=generation_pb2.FINISH_REASON_TOOL_CALLS if say.calls else say.finish,
        usage=usage_pb2.TokenUsage(prompt_tokens=10, completion_tokens=3),
        tool_calls=[
            message_pb2.ToolCall(id=f"c{index}", name=name, arguments_json=arguments)
            for index, (name, arguments) in enumerate(say.calls)
        ],
    )
    return model_service_pb2.GenerateResponse(event=generation_pb2.GenerateEvent(finished=finished))


@dataclass
class Documents(RetrievalServiceServicer):
    """Passages of the default knowledge base; `error` is raised instead when set."""

    passages: Sequence[document_pb2.Passage] = ()
    error: ServiceError | None = None
    requests: list[retrieval_service_pb2.SearchRequest] = field(default_factory=list)

    async def Search(
        self, request: retrieval_service_pb2.SearchRequest, context: Any
    ) -> retrieval_service_pb2.SearchResponse:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return retrieval_service_pb2.SearchResponse(passages=self.passages)


def passage(number: int, text: str, *, page: int = 0) -> document_pb2.Passage:
    """Return a passage of the document `book-<number>`."""
    return document_pb2.Passage(
        chunk_id=f"chunk-{number}",
        document_id=f"document-{number}",
        document_name=f"book-{number}.pdf",
        text=text,
        page=page,
        score=0.5,
    )


@dataclass
class ToolShed(ToolServiceServicer):
    """A calculator that adds, a slow tool, and a search; with a ledger as tool-exec's. `error` is
    raised instead of any call when set.
    """

    error: ServiceError | None = None
    ran: list[tuple[str, int, int, str]] = field(default_factory=list)
    asked: int = 0
    stopped: int = 0
    ledger: dict[tuple[str, int, int], str] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    citations: Sequence[str] = ()

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: Any
    ) -> tool_service_pb2.ListToolsResponse:
        schema = json_format.ParseDict(
            {"type": "object", "properties": {"numbers": {"type": "array"}}}, struct_pb2.Struct()
        )
        return tool_service_pb2.ListToolsResponse(
            tools=[
                tool_pb2.Tool(name=name, description=f"The tool {name}.", input_schema=schema)
                for name in ("add", "knowledge_search", "slow")
            ]
        )

    async def DescribeTool(
        self, request: tool_service_pb2.DescribeToolRequest, context: Any
    ) -> tool_service_pb2.DescribeToolResponse:
        if request.name not in ("add", "knowledge_search", "slow"):
            raise NoSuchTool(f"there is no tool named {request.name}")
        return tool_service_pb2.DescribeToolResponse(tool=tool_pb2.Tool(name=request.name))

    async def ExecuteTool(
        self, request: tool_service_pb2.ExecuteToolRequest, context: Any
    ) -> AsyncIterator[tool_service_pb2.ExecuteToolResponse]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if request.name not in ("add", "knowledge_search", "slow"):
            raise NoSuchTool(f"there is no tool named {request.name}")
        try:
            arguments = json.loads(request.arguments_json)
        except ValueError:
            raise BadArguments("arguments_json: is not JSON") from None
        key = (request.task_id, request.step, request.call_index)
        replayed = key in self.ledger
        if not replayed:
            self.ran.append((*key, request.name))
            self.ledger[key] = await self._run(request.name, arguments)
        outcome = tool_pb2.ToolOutcome(
            result_json=self.ledger[key],
            replayed=replayed,
            citations_json=self.citations if request.name == "knowledge_search" else (),
        )
        yield tool_service_pb2.ExecuteToolResponse(event=tool_pb2.ToolEvent(outcome=outcome))

    async def _run(self, name: str, arguments: dict[str, Any]) -> str:
        if name == "slow":
            self.reached.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
        if name == "knowledge_search":
            return json.dumps({"passages": [json.loads(text) for text in self.citations]})
        return json.dumps({"sum": sum(arguments.get("numbers", ()))})


@dataclass
class Memory(MemoryServiceServicer):
    """What is remembered; and turns of one session that are due, stored as often as they are.

    `gate` holds back Recall; `storing` holds back StoreSummary, which has `reached` it then.
    """

    memories: Sequence[memory_service_pb2.Memory] = ()
    summaries: Sequence[memory_service_pb2.Memory] = ()
    error: ServiceError | None = None
    gate: asyncio.Event | None = None
    storing: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    turns: list[str] = field(default_factory=list)
    known: Sequence[memory_service_pb2.Memory] = ()
    stored: list[memory_service_pb2.StoreSummaryRequest] = field(default_factory=list)
    recalled: list[memory_service_pb2.RecallRequest] = field(default_factory=list)

    async def Recall(
        self, request: memory_service_pb2.RecallRequest, context: Any
    ) -> memory_service_pb2.RecallResponse:
        self.recalled.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return memory_service_pb2.RecallResponse(
            memories=[
                memory_service_pb2.RecalledMemory(memory=memory, score=0.5)
                for memory in self.memories
            ]
        )

    async def ListMemories(
        self, request: memory_service_pb2.ListMemoriesRequest, context: Any
    ) -> memory_service_pb2.ListMemoriesResponse:
        return memory_service_pb2.ListMemoriesResponse(memories=self.summaries)

    async def ReadSummaryBatch(
        self, request: memory_service_pb2.ReadSummaryBatchRequest, context: Any
    ) -> memory_service_pb2.ReadSummaryBatchResponse:
        if not self.turns:
            return memory_service_pb2.ReadSummaryBatchResponse()
        said = [
            message_pb2.Message(
                role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=text)]
            )
            for text in self.turns
        ]
        return memory_service_pb2.ReadSummaryBatchResponse(
            batch_id=f"batch-{len(self.stored) + 1}",
            messages=[session_pb2.StoredMessage(message=message) for message in said],
            known=self.known,
        )

    async def StoreSummary(
        self, request: memory_service_pb2.StoreSummaryRequest, context: Any
    ) -> memory_service_pb2.StoreSummaryResponse:
        self.reached.set()
        if self.storing is not None:
            await self.storing.wait()
        if self.turns:
            self.turns.clear()
            self.stored.append(request)
        return memory_service_pb2.StoreSummaryResponse()
