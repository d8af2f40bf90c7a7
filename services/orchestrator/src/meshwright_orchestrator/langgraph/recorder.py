"""A graph's calls to models and tools, journaled one by one.

After a crash the graph runs again from its beginning; a call that is in the journal is answered
from there, so no model is paid and no tool is called a second time. That asks of a graph what
every replay asks: with the same answers it makes the same calls. Calls are made one at a time,
which keeps their order in the journal, in the stream and in the effect ledger the same.

A node that interrupts itself runs again when it is resumed; its calls come from the journal, too.
"""

import asyncio
import hashlib
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any, TypeVar

import orjson

from meshwright_orchestrator.domain import citations
from meshwright_orchestrator.domain.conversation import Image, Message, ToolCall, ToolOffer, ToolUse
from meshwright_orchestrator.domain.decider import PlannedCall, Recall
from meshwright_orchestrator.domain.errors import StepLimit
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Recalled,
    Remembered,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import Citation
from meshwright_orchestrator.domain.waiting import Asked, Question
from meshwright_orchestrator.domain.workbench import Workbench
from meshwright_orchestrator.langgraph.replay import Replay

T = TypeVar("T")


class Recorder:
    """Stands between a graph and its workbench. Made on the event loop that runs the graph."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.sources: tuple[Citation, ...] = ()
        self._replay = Replay(bench.steps)
        self._written: dict[str, ToolCall] = {}
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._from_threads: set[Future[Any]] = set()

    def __deepcopy__(self, memo: object) -> "Recorder":
        """Return this one: a copy of a graph's state is no other task."""
        return self

    @property
    def texts(self) -> list[str]:
        """What the models said so far, without hidden thoughts."""
        return self._replay.texts

    async def generate(
        self,
        messages: tuple[Message, ...],
        tool_use: ToolUse,
        offers: tuple[ToolOffer, ...],
        *,
        hidden: bool,
    ) -> ModelAnswered:
        """Return a model's message, from the journal if it is there. Raises: StepLimit."""
        messages = tuple(self.as_written(message) for message in messages)
        digest = _digest(
            [_plain(message) for message in messages],
            tool_use.value,
            [offer.name for offer in offers],
            hidden,
        )
        async with self._turn:
            node = self._replay.enter()
            self._check_limit()
            answer = self._replay.take(ModelAnswered, {digest}, node)
            if answer is None:
                answer = await self.bench.generate(messages, tool_use, offers=offers, hidden=hidden)
                answer = replace(answer, digest=digest)
                await self.bench.commit(answer)
                self._replay.add(answer, node)
        self._written.update((call.id, call) for call in answer.tool_calls)
        return answer

    async def use_tool(self, name: str, arguments: Mapping[str, object]) -> ToolResult:
        """Return a tool's result with sources numbered as in the answer. Raises: StepLimit."""
        async with self._turn:
            node = self._replay.enter()
            self._check_limit()
            call, digests = self._call(name, arguments)
            outcome = self._replay.take(ToolsAnswered, digests, node)
            if outcome is None:
                outcome = await self.bench.use_tools([PlannedCall(call)])
                outcome = replace(outcome, digest=digests[0])
                await self.bench.commit(outcome)
                self._replay.add(outcome, node)
            (result,) = outcome.results
            self.sources, numbers = citations.numbered_on(self.sources, result.citations)
        return replace(result, result_json=citations.for_model(result, numbers))

    async def recall(self, query: str, top_k: int) -> tuple[Remembered, ...]:
        """Return what is remembered of the owner that fits `query`, best first."""
        digest = _digest("recall", query, top_k)
        async with self._turn:
            node = self._replay.enter()
            found = self._replay.take(Recalled, {digest}, node)
            if found is None:
                found = await self.bench.recall(Recall(query, top_k=0, memories=top_k))
                found = replace(found, digest=digest)
                await self.bench.commit(found)
                self._replay.add(found, node)
        return found.memories

    async def ask(self, questions: tuple[Question, ...]) -> Asked:
        """Return what people answered; the graph's nodes run again with that.

        Raises: Suspended while not all answers are there.
        """
        asked = self._replay.take_answers(questions)
        if asked is None:
            asked = await self.bench.ask(questions)
            await self.bench.commit(asked)
            self._replay.add(asked)
        self._replay.resumed()
        return asked

    def _check_limit(self) -> None:
        limit = self.bench.task.limits.max_steps
        if self._replay.used_steps >= limit:
            raise StepLimit(max_steps=str(limit))

    def _call(self, name: str, arguments: Mapping[str, object]) -> tuple[ToolCall, tuple[str, ...]]:
        """Return the call as a model asked for it, or one that the graph makes by itself; and by
        which digests the journal may know it.
        """
        for call in self._replay.open_calls:
            if call.name == name and parsed_arguments(call) == arguments:
                return call, (_digest(asdict(call)),)
        arguments_json = orjson.dumps(arguments, default=str).decode()
        call = ToolCall(f"call_graph_{self._replay.journaled}", name, arguments_json)
        # Nodes that run side by side count in no certain order, so the id is none to know it by.
        # Before the third engine it was.
        before = ToolCall(f"call_graph_{self._replay.used_steps}", name, arguments_json)
        return call, (_digest(name, arguments_json), _digest(asdict(before)))

    def as_written(self, message: Message) -> Message:
        """Return the message with the arguments of its calls as their model spelt them.

        LangChain keeps them parsed; the same JSON in another spelling is another text to a model.
        """
        if not message.tool_calls:
            return message
        calls = tuple(self._spelt(call) for call in message.tool_calls)
        return replace(message, tool_calls=calls)

    def _spelt(self, call: ToolCall) -> ToolCall:
        written = self._written.get(call.id)
        if written is None or parsed_arguments(written) != parsed_arguments(call):
            return call
        return written

    def from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the event loop, from a synchronous node that runs in a thread."""
        if threading.get_ident() == self._thread:
            work.close()
            raise RuntimeError("call ainvoke, not invoke, in an async node")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._from_threads.add(future)
        try:
            return future.result()
        finally:
            self._from_threads.discard(future)

    def close(self) -> None:
        """End the calls of synchronous nodes, which nobody else can."""
        for future in tuple(self._from_threads):
            future.cancel()


def parsed_arguments(call: ToolCall) -> Mapping[str, object] | None:
    """Return a call's arguments; None when they are no JSON object."""
    try:
        arguments = orjson.loads(call.arguments_json or "{}")
    except orjson.JSONDecodeError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _plain(message: Message) -> dict[str, object]:
    parts = [
        [part.url, hashlib.sha256(part.data).hexdigest()] if isinstance(part, Image) else part.text
        for part in message.parts
    ]
    calls = [asdict(call) for call in message.tool_calls]
    return {"role": message.role.value, "parts": parts, "calls": calls, "to": message.tool_call_id}


def _digest(*values: object) -> str:
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
