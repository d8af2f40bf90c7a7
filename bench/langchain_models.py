"""Chat models of LangChain whose answers are given, for the tests of the adapter."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

Content = str | list[str | dict[str, Any]]


def given(model: object) -> object:
    """Return `model`: a factory, as an operator names one."""
    return model


def chunk(content: Content = "", **fields: Any) -> AIMessageChunk:
    """Return a chunk of a stream."""
    return AIMessageChunk(content=content, **fields)


class Scripted(BaseChatModel):
    """Streams what it is given, without blocking; keeps what it was asked."""

    script: list[Any]
    """Chunks, exceptions to raise, or "wait" to say nothing more."""
    takes_tools: bool = True
    asked: list[Any] = []  # noqa: RUF012 -- pydantic copies it
    closed: list[bool] = []  # noqa: RUF012 -- the same

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Any, *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """Keep the tools for the call, as most packages do."""
        if not self.takes_tools:
            raise NotImplementedError
        return self.bind(tools=tools, tool_choice=tool_choice)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise AssertionError("it streams")

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append((messages, stop, kwargs))
        try:
            for one in self.script:
                if isinstance(one, Exception):
                    raise one
                if one == "wait":
                    await asyncio.Event().wait()
                yield ChatGenerationChunk(message=one)
        finally:
            self.closed.append(True)


class Blocking(BaseChatModel):
    """Answers at once, and blocks its thread until it may."""

    answer: AIMessage
    may: Any = None

    @property
    def _llm_type(self) -> str:
        return "blocking"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if threading.current_thread() is threading.main_thread():
            raise AssertionError("it blocks the event loop")
        if self.may is not None:
            self.may.wait(10)
        return ChatResult(generations=[ChatGeneration(message=self.answer)])


class BlockingStream(Blocking):
    """The same, streaming."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for number in range(1000):
            yield ChatGenerationChunk(message=chunk(f"{number} "))


def call(index: int | None, **fields: Any) -> AIMessageChunk:
    """Return a chunk that holds a piece of a call."""
    made = tool_call_chunk(index=index, **fields)
    return AIMessageChunk(content="", tool_call_chunks=[made])
