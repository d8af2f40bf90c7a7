"""Waiting in tests: for a condition, bounded, never for a length of time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final

TIMEOUT_SECONDS: Final = 30.0
LOOK_EVERY_SECONDS: Final = 0.01


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, timeout_seconds: float = TIMEOUT_SECONDS
) -> None:
    """Return when `condition` is true; it may be async. Raises: AssertionError after the time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true after {timeout_seconds:g} s: {_source(condition)}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def _source(condition: Callable[[], bool | Awaitable[bool]]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except OSError:
        return repr(condition)
