"""A second deployment is asked when the first is silent; whoever says something first goes on.

"The Tail at Scale" (Dean and Barroso, 2013) calls it a hedged request. It is opt-in, because both
are paid for. The slower one is closed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.output import ProviderOutput
from meshwright_model_router.domain.streams import StreamRequest


class Failed(Exception):
    """The last of the requests failed, with `error`; the others were lost before it."""

    def __init__(self, request: StreamRequest, error: ServiceError) -> None:
        super().__init__(error.reason)
        self.request = request
        self.error = error


class Lose(Protocol):
    """Takes a request that does not go on, its connection closed."""

    def __call__(
        self, request: StreamRequest, error: ServiceError | None, *, repeated: bool
    ) -> None:
        """`error` None: it was the slower one. `repeated`: another one is the caller's."""
        ...


async def race(
    first: StreamRequest,
    after_seconds: float,
    second: Callable[[], Awaitable[StreamRequest | None]],
    lose: Lose,
) -> tuple[StreamRequest, ProviderOutput]:
    """Return the request that said something first, with what it said.

    `second` begins another one, or returns None when there is none.
    Raises: Failed when all failed; cancelled, it closes and loses all of them.
    """
    racing: dict[asyncio.Task[ProviderOutput], StreamRequest] = {}

    def start(request: StreamRequest) -> asyncio.Task[ProviderOutput]:
        # house: naked-task: all that are racing are awaited below, on every way out
        task = asyncio.create_task(request.first(), name="first-token")
        racing[task] = request
        return task

    leading = start(first)
    is_over = False
    try:
        done, _ = await asyncio.wait(racing, timeout=after_seconds)
        if not done and (other := await second()) is not None:
            if leading.done():
                other.withdraw()
            else:
                _ = start(other)
        while True:
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            task = next(iter(done))
            request = racing.pop(task)
            try:
                output = task.result()
            except ServiceError as error:
                if not racing:
                    raise Failed(request, error) from error
                await request.close()
                lose(request, error, repeated=True)
                continue
            is_over = True
            return request, output
    finally:
        await _end(racing, lose, first=None if is_over else first)


async def _end(
    racing: dict[asyncio.Task[ProviderOutput], StreamRequest],
    lose: Lose,
    *,
    first: StreamRequest | None,
) -> None:
    """Close all that are still racing. `first`: the one that counts as the caller's."""
    if not racing:
        return
    for task in racing:
        task.cancel()
    await asyncio.wait(racing)
    for task, request in racing.items():
        await request.close()
        error = None if task.cancelled() else task.exception()
        said = error if isinstance(error, ServiceError) else None
        lose(request, said, repeated=request is not first)
