"""A streamed answer over HTTP: from the bytes of its events to pieces, whatever the protocol."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from meshwright_model_router.domain.output import (
    Ended,
    Opened,
    Piece,
    ProviderOutput,
    ReportedUsage,
)
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import (
    broken_protocol,
    fault_in,
    from_event,
    truncated,
)
from meshwright_model_router.providers.http import (
    HttpClient,
    HttpResponse,
    StreamWatch,
    post,
    read_body,
)
from meshwright_model_router.providers.sse import SseError, SseParser

_STREAM: Final = frozenset({"text/event-stream", "application/octet-stream"})
"""Content types of a stream; some servers send none, which the client reads as the second."""


class StreamAssembly(Protocol):
    """Puts one answer together from the data of its events."""

    model: str
    """The name that the provider reports; "" before it does."""
    done: bool
    """Nothing that follows is looked at."""

    @property
    def prompt_usage(self) -> ReportedUsage | None:
        """What the provider told so far: before the answer it is what the prompt took."""
        ...

    def take(self, events: list[bytes]) -> Piece | None:
        """Return what the events add, as one piece; None: no output.

        Raises: ProviderProtocol for what is no event of the protocol; what an error event says.
        """
        ...

    @property
    def complete(self) -> bool:
        """True when the provider said that the answer is over."""
        ...

    def ended(self) -> Ended:
        """Return the end of a complete answer."""
        ...


async def stream_answer(
    client: HttpClient,
    endpoint: Endpoint,
    path: str,
    body: bytes,
    assembly: StreamAssembly,
    *,
    seconds_left: float | None,
) -> AsyncGenerator[ProviderOutput, None]:
    """Send `body` and yield what `assembly` makes of the answer; see ChatProvider.stream.

    Chunks that one read brought are one piece. Comments, and events without data, are no
    progress: a server that sends nothing else runs into the limit of silence, so a reasoning model
    behind one that only keeps the line open needs a longer `first_byte` limit.
    """
    timeouts = endpoint.timeouts
    total = timeouts.total if seconds_left is None else min(timeouts.total, seconds_left)
    began = asyncio.get_running_loop().time()
    async with post(
        client, endpoint, path, body, seconds=min(timeouts.first_byte, total)
    ) as response:
        await _refuse_other_content(endpoint, response)
        parser, opened = SseParser(), False
        watch = StreamWatch(endpoint, response.content, began=began, total_seconds=total)
        with watch:
            while not assembly.done:
                data = await _read(endpoint, response)
                if not data:
                    break
                try:
                    events = parser.feed(data)
                except SseError as error:
                    raise broken_protocol(endpoint, str(error)) from error
                if parser.progress:
                    watch.received()
                if not events:
                    continue
                piece = assembly.take(events)
                if not opened:
                    opened = True
                    yield Opened(assembly.model, assembly.prompt_usage)
                if piece is not None:
                    yield piece
        if not assembly.complete:
            raise truncated(endpoint)
        response.release(at_its_end=assembly.done)
        if not opened:
            yield Opened(assembly.model, assembly.prompt_usage)
        yield assembly.ended()


async def _read(endpoint: Endpoint, response: HttpResponse) -> bytes:
    """Return the bytes at hand, waiting for the first; empty at the end of the body."""
    try:
        return await response.content.readany()
    except OSError as error:
        raise truncated(endpoint) from error


async def _refuse_other_content(endpoint: Endpoint, response: HttpResponse) -> None:
    """Raise unless the body is a stream of events."""
    if response.content_type in _STREAM:
        return
    body = await read_body(endpoint, response, seconds=endpoint.timeouts.first_byte)
    if response.content_type == "application/json" and fault_in(body).message:
        raise from_event(endpoint, body)
    raise broken_protocol(
        endpoint,
        f"its answer is {response.content_type} instead of a stream of events; "
        f"check {endpoint.base_url_setting}",
    )
