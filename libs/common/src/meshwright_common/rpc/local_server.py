"""A server without a socket: the same servicers and interceptors, called in this process."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

import grpc
import grpc.aio

from meshwright_common.rpc.local_rpc import LocalRpc, LocalServicerContext, Pairs
from meshwright_common.rpc.wrapping import Handler
from meshwright_common.telemetry.logging import get_logger

Req = TypeVar("Req")
Res = TypeVar("Res")
Resolver = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

_STOPPING: Final = "the server is stopping"
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalCallDetails:
    """What interceptors get to see before the handler is known."""

    method: str
    invocation_metadata: Pairs


class LocalServer(grpc.aio.Server):
    """The handlers of one process, behind its interceptors.

    It takes registrations as `grpc.aio.Server` does, serves calls of `LocalChannel`, and can hand
    the same handlers to a real server (`copy_to`). Each call runs in a task of its own with a
    fresh context, so identity, deadline and trace arrive by metadata only.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._methods: dict[str, Handler] = {}
        self._services: dict[str, Mapping[str, Handler]] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._resolve = self._chain(interceptors)
        self._running: set[LocalRpc[Any, Any]] = set()
        self._idle = asyncio.Event()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._on_stopping: list[Callable[[], None]] = []

    @property
    def services(self) -> Mapping[str, Mapping[str, Handler]]:
        """Handlers by full service name and method name."""
        return self._services

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        self._services[service_name] = method_handlers
        for name, handler in method_handlers.items():
            self._methods[f"/{service_name}/{name}"] = handler

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]
    ) -> None:
        self._generic.extend(generic_rpc_handlers)

    def copy_to(self, server: grpc.aio.Server) -> None:
        """Register every handler of this server with `server`, which has its own interceptors."""
        server.add_generic_rpc_handlers(tuple(self._generic))
        for service_name, handlers in self._services.items():
            server.add_registered_method_handlers(service_name, handlers)

    def add_insecure_port(self, address: str) -> int:
        return self._refuse_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        return self._refuse_port(address)

    def _refuse_port(self, address: str) -> NoReturn:
        raise grpc.aio.UsageError(f"a local server has no ports: {address}")

    async def start(self) -> None:
        """Nothing to start: calls are served from the first registration on."""

    @property
    def is_stopping(self) -> bool:
        """Whether new calls are refused."""
        return self._stopping

    def on_stopping(self, callback: Callable[[], None]) -> None:
        """Call `callback` when new calls begin to be refused."""
        self._on_stopping.append(callback)

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls, give running ones `grace` seconds, then cancel them."""
        self._stopping = True
        for callback in self._on_stopping:
            callback()
        if self._running and grace:
            self._idle.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._idle.wait()
            except TimeoutError:
                _logger.warning("local_calls_cancelled", count=len(self._running))
        tasks = [rpc.handler_task for rpc in self._running if rpc.handler_task is not None]
        for rpc in tuple(self._running):
            rpc.interrupt(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls")
        if tasks:
            await asyncio.wait(tasks)
        self._stopped.set()

    async def wait_for_termination(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 -- the signature of grpc.aio
    ) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False

    def accept(self, rpc: LocalRpc[Req, Res], request: Req | None, codec: "Codec") -> None:
        """Start the handler of a call; `request` is None when requests come as a stream."""
        if self._stopping:
            rpc.finish(grpc.StatusCode.UNAVAILABLE, _STOPPING)
            return
        self._running.add(rpc)
        # house: naked-task: owned by the call, which cancels it, and by `stop`
        rpc.handler_task = asyncio.get_running_loop().create_task(
            self._serve(rpc, request, codec), name=rpc.path, context=contextvars.Context()
        )

    async def _serve(self, rpc: LocalRpc[Req, Res], request: Req | None, codec: "Codec") -> None:
        try:
            details = cast(grpc.HandlerCallDetails, LocalCallDetails(rpc.path, rpc.metadata))
            handler = await self._resolve(details)
            if handler is None:
                rpc.finish(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
                return
            await _run(rpc, handler, request, codec)
        except grpc.aio.AbortError:
            # The handler ended the call itself.
            rpc.finish(grpc.StatusCode.UNKNOWN, "aborted without a status")
        except asyncio.CancelledError:
            rpc.finish(grpc.StatusCode.CANCELLED, "the handler was cancelled")
        # house: broad-except: outermost frame of a call; what was not mapped ends here, unseen
        except Exception as error:
            if rpc.code is None:
                _logger.exception("local_call_failed", method=rpc.path)
                rpc.finish(grpc.StatusCode.UNKNOWN, "the handler failed")
            elif not isinstance(error, grpc.aio.UsageError):
                _logger.warning("local_cleanup_failed", method=rpc.path, exc_info=True)
        finally:
            rpc.handler_task = None
            self._running.discard(rpc)
            if not self._running:
                self._idle.set()

    def _chain(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> Resolver:
        resolve: Resolver = self._find
        for interceptor in reversed(interceptors):
            resolve = functools.partial(interceptor.intercept_service, resolve)
        return resolve

    async def _find(self, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = self._methods.get(details.method)
        if handler is not None:
            return handler
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None


class Codec:
    """How messages cross: as they are, or serialised and parsed (`copying`)."""

    __slots__ = ("copying", "request_serializer", "response_deserializer")

    def __init__(
        self,
        copying: bool,
        request_serializer: Callable[[Any], bytes] | None,
        response_deserializer: Callable[[bytes], Any] | None,
    ) -> None:
        self.copying = copying
        self.request_serializer = request_serializer
        self.response_deserializer = response_deserializer

    def request_reader(self, handler: Handler) -> Callable[[Any], Any]:
        """Return what turns the client's message into the handler's."""
        return self._crossing(self.request_serializer, handler.request_deserializer)

    def response_reader(self, handler: Handler) -> Callable[[Any], Any]:
        """Return what turns the handler's message into the client's."""
        return self._crossing(handler.response_serializer, self.response_deserializer)

    def _crossing(
        self,
        serialize: Callable[[Any], bytes] | None,
        parse: Callable[[bytes], Any] | None,
    ) -> Callable[[Any], Any]:
        if not self.copying or serialize is None or parse is None:
            return _as_it_is
        return lambda message: parse(serialize(message))


def _as_it_is(message: Any) -> Any:
    return message


class _Requests(Generic[Req]):
    """The stream of requests, as a handler iterates over it."""

    __slots__ = ("_context",)

    def __init__(self, context: LocalServicerContext[Req, Any]) -> None:
        self._context = context

    def __aiter__(self) -> "_Requests[Req]":
        return self

    async def __anext__(self) -> Req:
        request = await self._context.read()
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        return request


async def _run(
    rpc: LocalRpc[Any, Any], handler: Handler, request: object | None, codec: Codec
) -> None:
    read = codec.request_reader(handler)
    context: LocalServicerContext[Any, Any] = LocalServicerContext(
        rpc, read, codec.response_reader(handler)
    )
    argument = _Requests(context) if handler.request_streaming else read(request)
    if handler.response_streaming:
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        await _stream(context, cast("Callable[..., Any]", behaviour), argument)
        context.raise_if_over()
    else:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        response = cast("Callable[..., Any]", behaviour)(argument, context)
        # Not inspect.isawaitable, which costs a microsecond.
        if hasattr(response, "__await__"):
            response = await response
        context.raise_if_over()
        if context.code() in (None, grpc.StatusCode.OK) and not rpc.fits(response):
            return
        rpc.response = codec.response_reader(handler)(response)
    code = cast("grpc.StatusCode | None", context.code()) or grpc.StatusCode.OK
    rpc.finish(code, context.details(), tuple(context.trailing_metadata()))


async def _stream(
    context: LocalServicerContext[Any, Any], behaviour: Callable[..., Any], argument: object
) -> None:
    produced = behaviour(argument, context)
    if hasattr(produced, "__await__"):
        await produced
        return
    responses = cast("AsyncIterator[Any]", produced)
    try:
        async for message in responses:
            await context.write(message)
    finally:
        # A handler suspended at its `yield` cleans up here and now, in its own task.
        close = getattr(responses, "aclose", None)
        if close is not None:
            await close()
