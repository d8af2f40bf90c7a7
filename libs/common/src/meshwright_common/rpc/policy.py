"""The decorator around every channel: deadline, identity, retries, breaker, error translation."""

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from meshwright_common import context
from meshwright_common.clock import Clock
from meshwright_common.context import CallContext, Principal
from meshwright_common.errors import DeadlineExceeded, InvalidArgument, Unauthenticated
from meshwright_common.ids import new_id
from meshwright_common.resilience.breaker import Breaker, BreakerPolicy
from meshwright_common.resilience.retry import Backoff
from meshwright_common.resilience.retry_budget import RetryBudget
from meshwright_common.rpc import methods, policy_calls
from meshwright_common.rpc.balanced import BalancedChannel
from meshwright_common.rpc.methods import Method
from meshwright_common.rpc.policy_calls import LEAST_SECONDS, Guards, Plan

Req = TypeVar("Req")
Res = TypeVar("Res")
Metadata = grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]

HOP_MARGIN_SECONDS: Final = 0.05
"""What a hop keeps of its own deadline, to answer in time when the next one does not."""
RESERVED_METADATA: Final = frozenset(
    {
        *("authorization", "x-request-id", "x-correlation-id", "traceparent", "tracestate"),
        "x-retry-attempt",
    }
)
"""Names that only the channel writes."""


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How calls to one peer are made. `deadlines` are seconds by method path."""

    peer: str
    token_for: Callable[[Principal], str]
    deadlines: Mapping[str, float] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    breaker: BreakerPolicy = field(
        default_factory=lambda: BreakerPolicy(open_seconds=1.0, longest_open_seconds=30.0)
    )


class PolicyChannel(grpc.aio.Channel):
    """Makes calls as the current `CallContext` says, over `inner`, by the rules of `policy`.

    Calls start when they are awaited or iterated, may be used once, and raise `ServiceError`,
    never `AioRpcError`. Only a method that is idempotent by its proto is repeated, only when the
    transport could not reach the peer, and only before the first message of a stream. Others are
    repeated only when nothing was sent, which a `BalancedChannel` knows. A call made while serving
    a repeated one is not repeated in turn, and `budget` bounds what is repeated of all calls.
    """

    def __init__(
        self,
        inner: grpc.aio.Channel,
        policy: CallPolicy,
        clock: Clock,
        budget: RetryBudget | None = None,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._guards = Guards(
            peer=policy.peer,
            backoff=policy.backoff,
            budget=budget or RetryBudget(clock),
            breaker=Breaker(policy.peer, clock, policy.breaker),
        )
        if isinstance(inner, BalancedChannel):
            # An instance that came back is no longer what the breaker judged.
            inner.when_connected(self._guards.breaker.try_now)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Req, Res]:
        inner = self._inner.unary_unary(method, request_serializer, response_deserializer)
        return _UnaryUnary(self, method, inner)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Req, Res]:
        inner = self._inner.unary_stream(method, request_serializer, response_deserializer)
        return _UnaryStream(self, method, inner)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Req, Res]:
        inner = self._inner.stream_unary(method, request_serializer, response_deserializer)
        return _StreamUnary(self, method, inner)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Req, Res]:
        inner = self._inner.stream_stream(method, request_serializer, response_deserializer)
        return _StreamStream(self, method, inner)

    def plan(
        self, path: str, facts: Method | None, timeout: float | None, metadata: Metadata | None
    ) -> Plan:
        """Settle deadline and metadata of one call now, from the current context.

        Raises: DeadlineExceeded, Unauthenticated, InvalidArgument (metadata that is reserved).
        """
        call = context.current()
        seconds = methods.seconds_for(path, facts, self._policy.deadlines)
        if timeout is not None:
            seconds = min(seconds, timeout)
        if call.deadline is not None:
            seconds = min(seconds, call.deadline - time.monotonic() - HOP_MARGIN_SECONDS)
        if seconds < LEAST_SECONDS:
            raise DeadlineExceeded("no time is left for this call", method=path)
        return Plan(
            guards=self._guards,
            deadline=time.monotonic() + seconds,
            metadata=self._metadata(call, facts, tuple(metadata or ())),
            repeatable=facts is not None and facts.repeatable and not facts.request_streaming,
            attempts_above=call.retry_attempt,
        )

    def _metadata(
        self, call: CallContext, facts: Method | None, extra: tuple[tuple[str, str | bytes], ...]
    ) -> tuple[tuple[str, str | bytes], ...]:
        request_id = call.request_id or new_id()
        own: tuple[tuple[str, str | bytes], ...] = (
            ("x-request-id", request_id),
            ("x-correlation-id", call.correlation_id or request_id),
            ("traceparent", call.traceparent or context.new_traceparent()),
        )
        if call.tracestate:
            own = (*own, ("tracestate", call.tracestate))
        if call.principal is not None:
            own = (("authorization", "Bearer " + self._policy.token_for(call.principal)), *own)
        elif facts is None or not facts.is_open:
            raise Unauthenticated("no caller is bound to this work")
        for name, _ in extra:
            if name in RESERVED_METADATA:
                raise InvalidArgument(f"the metadata {name} is written by the channel")
        return own + extra

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


class _Method:
    __slots__ = ("_channel", "_facts", "_inner", "_path")

    def __init__(self, channel: PolicyChannel, path: str, inner: Any) -> None:
        self._channel = channel
        self._path = path
        self._inner = inner
        self._facts = methods.method(path)

    def _plan(self, timeout: float | None, metadata: Metadata | None) -> Plan:
        return self._channel.plan(self._path, self._facts, timeout, metadata)


class _UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryUnaryCall[Req, Res]:
        return policy_calls.UnaryUnary(self._inner, request, self._plan(timeout, metadata))


class _UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryStreamCall[Req, Res]:
        return policy_calls.UnaryStream(self._inner, request, self._plan(timeout, metadata))


class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: AsyncIterable[Req] | Iterable[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Req, Res]:
        requests = policy_calls.Requests(request_iterator)
        return policy_calls.StreamUnary(self._inner, requests, self._plan(timeout, metadata))


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: AsyncIterable[Req] | Iterable[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Req, Res]:
        requests = policy_calls.Requests(request_iterator)
        return policy_calls.StreamStream(self._inner, requests, self._plan(timeout, metadata))
