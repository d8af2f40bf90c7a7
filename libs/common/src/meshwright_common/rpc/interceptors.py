"""What every call passes on its way in: telemetry, identity, deadline, errors."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from prometheus_client import Histogram

from meshwright_common import context as call_context
from meshwright_common.context import CallContext
from meshwright_common.errors import DeadlineExceeded
from meshwright_common.identity.denials import Denials
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.registry.load import CallTally
from meshwright_common.rpc import methods
from meshwright_common.rpc.errors_interceptor import ErrorsInterceptor, abort
from meshwright_common.rpc.identity import IdentityInterceptor
from meshwright_common.rpc.unserved import UnservedInterceptor
from meshwright_common.rpc.wrapping import Handler, Many, One, Wrapper
from meshwright_common.telemetry import metrics, trace_context, tracing
from meshwright_common.telemetry.logging import get_logger
from meshwright_common.telemetry.spans import NO_SPAN, Attribute

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

_MAX_ID_CHARACTERS: Final = 128
_SERVER_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Ends of a call that speak against the process that served it: errors of its span, too."""
_GOOD_ENDS: Final = frozenset({"OK", "CANCELLED"})
_logger = get_logger(__name__)
# Asked first: a call of structlog costs as much as the rest of the interceptor.
_log_level = logging.getLogger(__name__)


def server_interceptors(
    service: str,
    verifier: TokenVerifier,
    *,
    deadlines: Mapping[str, float] | None = None,
    tally: CallTally | None = None,
    denials: Denials | None = None,
) -> Sequence[grpc.aio.ServerInterceptor]:
    """Return the interceptors of a server, outermost first, for `grpc.aio` and `LocalServer`.

    `service` is the process in the logs; `deadlines` are seconds by method path, for calls that
    come without a deadline; `tally` counts the calls, `denials` those that are refused.
    """
    return (
        TelemetryInterceptor(service, tally),
        IdentityInterceptor(verifier, denials),
        DeadlineInterceptor(deadlines or {}),
        ErrorsInterceptor(),
        UnservedInterceptor(),
    )


class TelemetryInterceptor(grpc.aio.ServerInterceptor):
    """Binds the ids of the call and measures it: metrics, one span, one line at level debug.

    Calls of gRPC's own services, as health checks, are no work and do not count in the `tally`.
    """

    def __init__(self, service: str, tally: CallTally | None = None) -> None:
        self._service = service
        self._tally = tally or CallTally()
        self._unseen = CallTally()
        self._wrap = Wrapper(self._one, self._many)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        call_context.enter(_ids_of(handler_call_details))
        handler = await continuation(handler_call_details)
        return None if handler is None else self._wrap(handler, handler_call_details.method)

    def _meter(self, path: str) -> "_Meter":
        facts = methods.method(path)
        is_work = facts is None or not facts.is_open
        tally = self._tally if is_work else self._unseen
        return _Meter(self._service, path, tally, is_traced=is_work)

    def _one(self, behaviour: One, path: str) -> One:
        meter = self._meter(path)

        async def serve(request: Any, context: Any) -> Any:
            measured = _Measured(meter)
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                measured.cancelled = True
                raise
            finally:
                measured.end(context)

        return serve

    def _many(self, behaviour: Many, path: str) -> Many:
        meter = self._meter(path)

        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            measured = _Measured(meter)
            responses: Any = behaviour(request, context)
            try:
                async for response in responses:
                    if measured.is_awaited:
                        measured.answered()
                    yield response
            except (asyncio.CancelledError, GeneratorExit):
                measured.cancelled = True
                raise
            finally:
                measured.end(context)
                await responses.aclose()

        return serve


class DeadlineInterceptor(grpc.aio.ServerInterceptor):
    """Binds the caller's deadline, or the method's own when the caller set none.

    grpc.aio tells a handler its deadline and does no more: this makes it the deadline of every
    call that the handler makes. A call that arrives too late is not started.
    """

    def __init__(self, deadlines: Mapping[str, float]) -> None:
        self._deadlines = deadlines
        self._wrap = Wrapper(self._one, self._many)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        return None if handler is None else self._wrap(handler, handler_call_details.method)

    def _default_seconds(self, path: str) -> float | None:
        facts = methods.method(path)
        if facts is not None and facts.is_open:
            return None
        return methods.seconds_for(path, facts, self._deadlines)

    def _one(self, behaviour: One, path: str) -> One:
        default_seconds = self._default_seconds(path)

        async def serve(request: Any, context: Any) -> Any:
            remaining: float | None = context.time_remaining()
            if remaining is not None:
                if remaining <= 0:
                    await abort(context, _too_late())
                _bind_deadline(remaining)
                return await behaviour(request, context)
            if default_seconds is None:
                return await behaviour(request, context)
            _bind_deadline(default_seconds)
            try:
                async with asyncio.timeout(default_seconds):
                    return await behaviour(request, context)
            except TimeoutError:
                await abort(context, _too_late())

        return serve

    def _many(self, behaviour: Many, path: str) -> Many:
        default_seconds = self._default_seconds(path)

        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            remaining: float | None = context.time_remaining()
            if remaining is not None:
                if remaining <= 0:
                    await abort(context, _too_late())
                _bind_deadline(remaining)
            responses: Any = behaviour(request, context)
            try:
                if remaining is None and default_seconds is not None:
                    _bind_deadline(default_seconds)
                    responses_in_time = _in_time(responses, default_seconds, context)
                    async for response in responses_in_time:
                        yield response
                else:
                    async for response in responses:
                        yield response
            finally:
                await responses.aclose()

        return serve


async def _in_time(responses: Any, seconds: float, context: Any) -> AsyncIterator[Any]:
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            # Not around the `yield`: a timeout there would hit the transport's write.
            async with asyncio.timeout_at(end):
                response = await anext(responses)
        except StopAsyncIteration:
            return
        except TimeoutError:
            await abort(context, _too_late())
        yield response


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the call took longer than its deadline")


def _bind_deadline(seconds: float) -> None:
    call = call_context.current()
    call_context.enter(
        CallContext(
            call.principal,
            time.monotonic() + seconds,
            call.request_id,
            call.correlation_id,
            call.traceparent,
            call.retry_attempt,
            call.tracestate,
        )
    )


def _ids_of(details: grpc.HandlerCallDetails) -> CallContext:
    """Take the ids from the metadata, as far as they are fit for logs; make what is missing."""
    request_id = correlation_id = traceparent = tracestate = ""
    retry_attempt = 0
    for name, value in details.invocation_metadata:
        if name == "x-request-id":
            request_id = _fit(value)
        elif name == "x-correlation-id":
            correlation_id = _fit(value)
        elif name == "traceparent" and trace_context.is_traceparent(str(value)):
            traceparent = str(value)
        elif name == "tracestate" and trace_context.is_tracestate(str(value)):
            tracestate = str(value)
        elif name == "x-retry-attempt":
            # Whatever it says, it is no first attempt.
            retry_attempt = int(value) if str(value).isdecimal() else 1
    request_id = request_id or new_id()
    return CallContext(
        principal=None,
        deadline=None,
        request_id=request_id,
        correlation_id=correlation_id or request_id,
        traceparent=traceparent or call_context.new_traceparent(),
        retry_attempt=retry_attempt,
        tracestate=tracestate,
    )


def _fit(value: str | bytes) -> str:
    text = value if isinstance(value, str) else ""
    return text if text.isascii() and text.isprintable() and len(text) <= _MAX_ID_CHARACTERS else ""


class _Meter:
    """The measuring instruments of one method, looked up once."""

    def __init__(self, service: str, path: str, tally: CallTally, *, is_traced: bool) -> None:
        self.service = service
        self.path = path
        self.name = path.removeprefix("/")
        self.is_traced = is_traced
        self.tally = tally
        self._seconds: dict[str, Histogram] = {}
        self._facts: dict[str, Mapping[str, Attribute]] = {}

    def facts(self, code: str) -> Mapping[str, Attribute]:
        """Return what all spans of calls say that end so."""
        facts = self._facts.get(code)
        if facts is None:
            facts = self._facts[code] = {
                "rpc.system.name": "grpc",
                "rpc.method": self.name,
                "rpc.response.status_code": code,
            }
        return facts

    def seconds(self, code: str) -> Histogram:
        histogram = self._seconds.get(code)
        if histogram is None:
            histogram = metrics.RPC_SERVER_SECONDS.labels(self.path, code)
            self._seconds[code] = histogram
        return histogram


class _Measured:
    """One call being measured."""

    __slots__ = ("_meter", "_span", "_start", "cancelled", "is_awaited")

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter
        self._start = time.perf_counter()
        self._span = tracing.serve(meter.name) if meter.is_traced else NO_SPAN
        self.is_awaited = self._span.recording
        self.cancelled = False
        metrics.RPC_SERVER_RUNNING.inc()
        meter.tally.began()

    def answered(self) -> None:
        """The first of many responses is there."""
        self.is_awaited = False
        self._span.answered()

    def end(self, context: Any) -> None:
        seconds = time.perf_counter() - self._start
        metrics.RPC_SERVER_RUNNING.dec()
        status: grpc.StatusCode | None = context.code()
        code = "OK" if status is None else status.name
        if self.cancelled and code == "OK":
            code = "CANCELLED"
        self._meter.tally.ended(failed=code in _SERVER_ERRORS)
        span = self._span
        if span.recording:
            span.shared = self._meter.facts(code)
            if code in _SERVER_ERRORS or (code not in _GOOD_ENDS and span.failed_inside):
                span.fail(code)
            span.end()
        self._meter.seconds(code).observe(seconds, span.exemplar)
        if _log_level.isEnabledFor(logging.DEBUG):
            _logger.debug("rpc_served", method=self._meter.path, code=code, seconds=seconds)
