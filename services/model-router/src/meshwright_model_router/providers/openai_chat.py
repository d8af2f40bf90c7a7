"""OpenAI-compatible chat completions: OpenAI, vLLM, Ollama, OpenRouter and many more."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp

from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.errors import ProviderTruncated
from meshwright_model_router.domain.output import Opened, ProviderOutput
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol, fault_in, from_event
from meshwright_model_router.providers.http import StreamWatch, post, read_body
from meshwright_model_router.providers.openai_chunks import Assembly
from meshwright_model_router.providers.openai_request import ToolNames, encode_request
from meshwright_model_router.providers.sse import SseError, SseParser

PATH: Final = "chat/completions"
_STREAM: Final = frozenset({"text/event-stream", "application/octet-stream"})
"""Content types of a stream; some servers send none, which aiohttp reads as the second."""


class OpenAiChat:
    """ChatProvider over one endpoint."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        self._session = session
        self._endpoint = endpoint

    async def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        endpoint, timeouts = self._endpoint, self._endpoint.timeouts
        names = ToolNames(prompt.tools)
        body = encode_request(endpoint, model, prompt, names)
        total = timeouts.total if seconds_left is None else min(timeouts.total, seconds_left)
        began = asyncio.get_running_loop().time()
        async with post(
            self._session, endpoint, PATH, body, seconds=min(timeouts.first_byte, total)
        ) as response:
            await self._refuse_other_content(response)
            assembly, parser = Assembly(endpoint, names), SseParser()
            opened = False
            watch = StreamWatch(endpoint, response.content, began=began, total_seconds=total)
            with watch:
                while not assembly.done:
                    data = await self._read(response)
                    if not data:
                        break
                    watch.received()
                    try:
                        events = parser.feed(data)
                    except SseError as error:
                        raise broken_protocol(endpoint, str(error)) from error
                    if not events:
                        continue
                    piece = assembly.take(events)
                    if not opened:
                        opened = True
                        yield Opened(assembly.model)
                    if piece is not None:
                        yield piece
            if not assembly.complete:
                raise self._truncated()
            if not opened:
                yield Opened(assembly.model)
            yield assembly.ended()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the bytes at hand, waiting for the first; empty at the end of the body."""
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._truncated() from error

    async def _refuse_other_content(self, response: aiohttp.ClientResponse) -> None:
        """Raise unless the body is a stream of events."""
        if response.content_type in _STREAM:
            return
        body = await read_body(self._endpoint, response, seconds=self._endpoint.timeouts.first_byte)
        if response.content_type == "application/json" and fault_in(body).message:
            raise from_event(self._endpoint, body)
        raise broken_protocol(
            self._endpoint,
            f"its answer is {response.content_type} instead of a stream of events; "
            f"check {self._endpoint.base_url_setting}",
        )

    def _truncated(self) -> ProviderTruncated:
        return ProviderTruncated(
            f"The provider of {self._endpoint.deployment!r} broke off its answer.",
            deployment=self._endpoint.deployment,
        )
