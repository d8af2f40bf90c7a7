"""A channel that fails as told: put it under `PolicyChannel` to see how code meets failure."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call: it ends with `code`, before it is sent or after some messages."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "injected"
    after_messages: int = 0
    delay_seconds: float = 0.0
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()

    def error(self) -> grpc.aio.AioRpcError:
        """Return the error that the caller sees."""
        return grpc.aio.AioRpcError(
            self.code,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*self.trailing_metadata),
            details=self.details,
        )


@dataclass(frozen=True, slots=True)
class SeenCall:
    """One call as it passed: path, seconds it was given, metadata."""

    method: str
    timeout_seconds: float | None
    metadata: tuple[tuple[str, str | bytes], ...]


class FaultChannel(grpc.aio.Channel):
    """Passes calls to `inner`, or gives the next one the next fault of `plan`.

    `seen` lists every call, also those that failed. A `None` in the plan lets one call pass.
    """

    def __init__(self, inner: grpc.aio.Channel) -> None:
        self._inner = inner
        self._plan: deque[Fault | None] = deque()
        self.seen: list[SeenCall] = []

    def plan(self, *faults: Fault | None) -> None:
        """Give the next calls these fates, in this order."""
        self._plan.extend(faults)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._inner.unary_unary(method, *args, **kwargs)
        return self._interposed(method, inner, _FaultyResponse)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._inner.stream_unary(method, *args, **kwargs)
        return self._interposed(method, inner, _FaultyResponse)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._inner.unary_stream(method, *args, **kwargs)
        return self._interposed(method, inner, _FaultyStream)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._inner.stream_stream(method, *args, **kwargs)
        return self._interposed(method, inner, _FaultyStream)

    def _interposed(
        self, method: str, inner: Callable[..., Any], faulty: "type[_FaultyCall]"
    ) -> Callable[..., Any]:
        def call(
            request: object = None,
            *,
            timeout: float | None = None,
            metadata: Any = None,
            **kwargs: Any,
        ) -> Any:
            self.seen.append(SeenCall(method, timeout, tuple(metadata or ())))
            fault = self._plan.popleft() if self._plan else None
            if fault is None:
                return inner(request, timeout=timeout, metadata=metadata, **kwargs)
            return faulty(
                fault, lambda: inner(request, timeout=timeout, metadata=metadata, **kwargs)
            )

        return call

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


class _FaultyCall:
    """The part of a call's surface that a failing call has."""

    def __init__(self, fault: Fault, start: Callable[[], Any]) -> None:
        self._fault = fault
        self._start = start
        self._inner: Any = None

    def cancel(self) -> bool:
        return self._inner is not None and bool(self._inner.cancel())

    def done(self) -> bool:
        return True

    async def code(self) -> grpc.StatusCode:
        return self._fault.code

    async def details(self) -> str:
        return self._fault.details

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*self._fault.trailing_metadata)


class _FaultyResponse(_FaultyCall):
    def __await__(self) -> Generator[Any, None, object]:
        return self._fail().__await__()

    async def _fail(self) -> object:
        await asyncio.sleep(self._fault.delay_seconds)
        raise self._fault.error()


class _FaultyStream(_FaultyCall):
    async def __aiter__(self) -> AsyncIterator[object]:
        await asyncio.sleep(self._fault.delay_seconds)
        if self._fault.after_messages:
            self._inner = self._start()
            passed = 0
            async for message in self._inner:
                yield message
                passed += 1
                if passed == self._fault.after_messages:
                    break
            self._inner.cancel()
        raise self._fault.error()
