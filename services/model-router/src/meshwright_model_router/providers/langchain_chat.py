"""Any chat model of LangChain as a provider, made by a callable that the operator names.

Of the options, temperature, top_p, max_tokens and stop are passed on, the names that LangChain's
chat models share; the rest belongs into the arguments of the factory.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.conversation import OutputFormat, Prompt
from meshwright_model_router.domain.errors import ProviderRejected
from meshwright_model_router.domain.output import Opened, ProviderOutput
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.factory import Factory
from meshwright_model_router.providers.failures import timed_out
from meshwright_model_router.providers.langchain_chunks import ChunkAssembly
from meshwright_model_router.providers.langchain_messages import (
    messages_of,
    tool_choice_of,
    tools_of,
)
from meshwright_model_router.providers.raised_errors import from_exception
from meshwright_model_router.providers.threaded_stream import ThreadedStreams
from meshwright_model_router.providers.tool_names import ToolNames

OUTPUT_TOOL: Final = "structured_output"


class LangChainChat:
    """ChatProvider over one model, made once; `model` of a call is only a name here."""

    def __init__(self, factory: Factory, endpoint: Endpoint) -> None:
        """Make the model. Raises: FactoryError."""
        self._endpoint = endpoint
        self._model: BaseChatModel = factory.make(BaseChatModel)
        self._threads = None if _is_async(type(self._model)) else ThreadedStreams()

    async def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        endpoint, timeouts = self._endpoint, self._endpoint.timeouts
        total = timeouts.total if seconds_left is None else min(timeouts.total, seconds_left)
        clock = asyncio.get_running_loop().time
        end = clock() + total
        names = ToolNames(prompt.tools)
        runnable, output_tool = self._bound(prompt, names)
        with_schema = not output_tool
        messages = messages_of(prompt, names, with_schema=with_schema)
        assembly = ChunkAssembly(names, output_tool)
        opened, limit = False, timeouts.first_byte
        async with aclosing(self._chunks(runnable, messages, prompt)) as chunks:
            while True:
                try:
                    async with asyncio.timeout(min(limit, end - clock())):
                        chunk = await anext(chunks, None)
                except TimeoutError as error:
                    raise self._expiry(opened, late=clock() >= end, total=total) from error
                except ServiceError:
                    raise
                # house: broad-except: the model is the operator's code and may raise anything
                except Exception as error:
                    raise from_exception(endpoint, error, under_way=opened) from error
                if chunk is None:
                    break
                piece, limit = assembly.take(chunk), timeouts.idle
                if not opened:
                    opened = True
                    yield Opened(assembly.model)
                if piece is not None:
                    yield piece
        if not opened:
            yield Opened(assembly.model)
        yield assembly.ended()

    def _bound(self, prompt: Prompt, names: ToolNames) -> tuple[Runnable[Any, Any], str]:
        """Return the model with its tools, and the tool that carries the answer, if any."""
        output_tool = ""
        if prompt.output_format is OutputFormat.JSON_SCHEMA and prompt.output_schema is not None:
            output_tool = OUTPUT_TOOL
        tools = tools_of(prompt, names, output_tool)
        if not tools:
            return self._model, ""
        choice = tool_choice_of(prompt, names, output_tool)
        try:
            bound = self._model.bind_tools(tools, tool_choice=choice)
        except NotImplementedError as error:
            if output_tool and len(tools) == 1:
                return self._model, ""  # asked for in words
            raise ProviderRejected(
                f"The model of {self._endpoint.deployment!r} takes no tools.",
                deployment=self._endpoint.deployment,
            ) from error
        return cast("Runnable[Any, Any]", bound), output_tool

    def _chunks(
        self, runnable: Runnable[Any, Any], messages: list[BaseMessage], prompt: Prompt
    ) -> AsyncGenerator[BaseMessage, None]:
        options = prompt.options
        fields: dict[str, Any] = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "max_tokens": options.max_output_tokens,
            "stop": list(options.stop_sequences) or None,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        if self._threads is not None:
            return self._threads.run(lambda: runnable.stream(messages, **given))
        return _generator(runnable.astream(messages, **given))

    def _expiry(self, opened: bool, *, late: bool, total: float) -> ServiceError:
        timeouts = self._endpoint.timeouts
        if late:
            return timed_out(self._endpoint, "no end of its answer", total)
        if opened:
            return timed_out(self._endpoint, "nothing more", timeouts.idle)
        return timed_out(self._endpoint, "no first byte", timeouts.first_byte)


async def _generator(chunks: AsyncIterator[BaseMessage]) -> AsyncGenerator[BaseMessage, None]:
    """Give the iterator as a generator, so that closing it closes the model's stream."""
    async with aclosing(cast("AsyncGenerator[BaseMessage, None]", chunks)) as closing:
        async for chunk in closing:
            yield chunk


def _is_async(kind: type[BaseChatModel]) -> bool:
    """Return whether the model streams, or answers, without blocking.

    What it has not, LangChain does in the event loop's default threads, which resolve host names
    as well: a few models that hang would stop all connecting.
    """

    def has(method: str) -> bool:
        return getattr(kind, method) is not getattr(BaseChatModel, method)

    return has("_astream") or (has("_agenerate") and not has("_stream"))
