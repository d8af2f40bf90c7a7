"""The calls that `PolicyChannel` returns: attempts of an inner call under one plan."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
import grpc.aio

from meshwright_common.errors import Unavailable
from meshwright_common.resilience.breaker import Breaker
from meshwright_common.resilience.retry import Backoff
from meshwright_common.resilience.retry_budget import RetryBudget
from meshwright_common.rpc.pool import NotSent
from meshwright_common.rpc.status import received
from meshwright_common.telemetry import metrics
from meshwright_common.telemetry.logging import get_logger

Req = TypeVar("Req")
Res = TypeVar("Res")

LEAST_SECONDS: Final = 0.02
"""With less than this left, a call is not worth sending."""
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guards:
    """What all calls of one channel share, to keep failure from spreading."""

    peer: str
    backoff: Backoff
    budget: RetryBudget
    breaker: Breaker

    def __post_init__(self) -> None:
        metrics.watch_breaker(self.peer, self.breaker)


@dataclass(slots=True)
class Plan:
    """What was settled when the call was made. `deadline` is on the `time.monotonic` scale.

    `attempts_above`: how often those up the call have repeated it; then it is not repeated here.
    """

    guards: Guards
    deadline: float
    metadata: tuple[tuple[str, str | bytes], ...]
    repeatable: bool
    attempts_above: int = 0
    attempt: int = 0

    def start(self, method: Callable[..., Any], request: object) -> Any:
        """Make the next attempt. Raises: Unavailable while the breaker is open."""
        self.guards.breaker.check()
        self.attempt += 1
        metadata = self.metadata
        if self.attempt == 1:
            self.guards.budget.record_call()
        repeated = self.attempt - 1 + self.attempts_above
        if repeated:
            metadata = (*metadata, ("x-retry-attempt", str(repeated)))
        return method(request, timeout=self.deadline - time.monotonic(), metadata=metadata)

    def succeeded(self) -> None:
        """The attempt ended well."""
        self.guards.breaker.record_success()

    def abandoned(self) -> None:
        """The attempt ended because the caller left."""
        self.guards.breaker.forget()

    async def pause_or_raise(self, rpc_error: grpc.aio.AioRpcError, *, started: bool) -> None:
        """Wait until the next attempt. Raises: the ServiceError if there should be none.

        An UNAVAILABLE with our details was decided by the peer's own code, which is nearer to the
        failure and has repeated what is worth repeating; repeating it here would multiply.
        A call of which nothing left this process may be repeated whatever it does: it has cost
        nobody anything. What serves a repeated call repeats nothing.
        """
        outcome = received(rpc_error)
        unreachable = isinstance(outcome.error, Unavailable) and not outcome.decided_by_peer
        if not unreachable:
            self.guards.breaker.record_success()
            raise outcome.error from rpc_error
        self._count_failure()
        delay = self.guards.backoff.delay_seconds(self.attempt)
        in_time = time.monotonic() + delay + LEAST_SECONDS < self.deadline
        if (
            started
            or not in_time
            or self.attempt >= self.guards.backoff.attempts
            or not (isinstance(rpc_error, NotSent) or self._may_repeat())
        ):
            raise outcome.error from rpc_error
        metrics.RPC_CLIENT_RETRIES.labels(self.guards.peer).inc()
        await asyncio.sleep(delay)

    def _count_failure(self) -> None:
        breaker = self.guards.breaker
        was_open = breaker.is_open
        breaker.record_failure()
        if breaker.is_open and not was_open:
            metrics.RPC_CLIENT_BREAKER_OPENINGS.labels(self.guards.peer).inc()
            _logger.warning("breaker_opened", peer=self.guards.peer)

    def _may_repeat(self) -> bool:
        return self.repeatable and not self.attempts_above and self.guards.budget.try_spend()


class Requests(Generic[Req]):
    """The caller's request iterator, which remembers its error.

    gRPC turns an error of the iterator into a cancelled call and forgets it.
    """

    def __init__(self, requests: AsyncIterable[Req] | Iterable[Req] | None) -> None:
        if requests is None:
            raise grpc.aio.UsageError("give the requests as an iterator")
        self._requests = requests
        self.error: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[Req]:
        try:
            if isinstance(self._requests, AsyncIterable):
                async for request in self._requests:
                    yield request
            else:
                for request in self._requests:
                    yield request
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self.error = error
            raise


class _Call(Generic[Req, Res], grpc.aio.Call):
    """A call under a plan. Status and metadata can be asked for once it has been started."""

    def __init__(self, method: Callable[..., Any], request: object, plan: Plan) -> None:
        self._method = method
        self._request = request
        self._plan = plan
        self._inner: Any = None
        self._cancelled = False
        self._finished = False
        self._callbacks: list[Callable[[Any], None]] = []

    def _begin(self) -> Any:
        if self._cancelled:
            raise asyncio.CancelledError
        self._inner = self._plan.start(self._method, self._request)
        return self._inner

    def _end(self) -> None:
        self._finished = True
        for callback in self._callbacks:
            callback(self)
        self._callbacks = []

    def _only_once(self) -> None:
        if self._inner is not None or self._finished:
            raise grpc.aio.UsageError("a call can be awaited or iterated once")

    def cancel(self) -> bool:
        if self._finished or self._cancelled:
            return False
        self._cancelled = True
        if self._inner is not None:
            self._inner.cancel()
        return True

    def cancelled(self) -> bool:
        return self._cancelled

    def done(self) -> bool:
        return self._finished or self._cancelled

    def time_remaining(self) -> float | None:
        return max(self._plan.deadline - time.monotonic(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._finished:
            asyncio.get_running_loop().call_soon(partial(callback, self))
        else:
            self._callbacks.append(callback)

    def _started(self) -> Any:
        if self._inner is None:
            raise grpc.aio.UsageError("the call starts when it is awaited or iterated")
        return self._inner

    async def initial_metadata(self) -> grpc.aio.Metadata:
        metadata: grpc.aio.Metadata = await self._started().initial_metadata()
        return metadata

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        metadata: grpc.aio.Metadata = await self._started().trailing_metadata()
        return metadata

    async def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = await self._started().code()
        return code

    async def details(self) -> str:
        details: str = await self._started().details()
        return details

    async def wait_for_connection(self) -> None:
        await self._started().wait_for_connection()


class _OneResponse(_Call[Req, Res]):
    def __await__(self) -> Generator[Any, None, Res]:
        self._only_once()
        return self._run().__await__()

    async def _run(self) -> Res:
        plan = self._plan
        try:
            while True:
                call = self._begin()
                try:
                    response: Res = await call
                except grpc.aio.AioRpcError as rpc_error:
                    await plan.pause_or_raise(rpc_error, started=False)
                except asyncio.CancelledError:
                    plan.abandoned()
                    self._raise_iterator_error()
                    raise
                else:
                    plan.succeeded()
                    return response
        finally:
            self._end()

    def _raise_iterator_error(self) -> None:
        if isinstance(self._request, Requests) and self._request.error is not None:
            raise self._request.error from None


class _ManyResponses(_Call[Req, Res]):
    _messages: AsyncIterator[Res] | None = None

    def __aiter__(self) -> AsyncIterator[Res]:
        if self._messages is None:
            self._only_once()
            self._messages = self._iterate()
        return self._messages

    async def read(self) -> NoReturn:
        raise grpc.aio.UsageError("iterate over the call, inside open_stream")

    async def _iterate(self) -> AsyncIterator[Res]:
        plan = self._plan
        started = False
        try:
            while True:
                call = self._begin()
                messages: AsyncIterator[Res] = call.__aiter__()
                try:
                    async for message in messages:
                        if not started:
                            # Known now, and not only when a long stream ends.
                            started = True
                            plan.succeeded()
                        yield message
                except grpc.aio.AioRpcError as rpc_error:
                    await plan.pause_or_raise(rpc_error, started=started)
                except (GeneratorExit, asyncio.CancelledError):
                    if not started:
                        plan.abandoned()
                    raise
                else:
                    if not started:
                        plan.succeeded()
                    return
                finally:
                    # Whoever leaves early ends the call; on a finished one this does nothing.
                    call.cancel()
                    close = getattr(messages, "aclose", None)
                    if close is not None:
                        await close()
        finally:
            self._end()


class UnaryUnary(_OneResponse[Req, Res], grpc.aio.UnaryUnaryCall[Req, Res]):
    """One request, one response."""


class UnaryStream(_ManyResponses[Req, Res], grpc.aio.UnaryStreamCall[Req, Res]):
    """One request, many responses."""


class _IteratorOnly(_Call[Req, Res]):
    async def write(self, request: Req) -> NoReturn:
        raise grpc.aio.UsageError("give the requests as an iterator")

    async def done_writing(self) -> NoReturn:
        raise grpc.aio.UsageError("give the requests as an iterator")


class StreamUnary(
    _OneResponse[Req, Res], _IteratorOnly[Req, Res], grpc.aio.StreamUnaryCall[Req, Res]
):
    """Many requests, one response."""


class StreamStream(
    _ManyResponses[Req, Res], _IteratorOnly[Req, Res], grpc.aio.StreamStreamCall[Req, Res]
):
    """Many requests, many responses."""
