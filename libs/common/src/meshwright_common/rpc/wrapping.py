"""Replacing what a handler does while keeping its shape, once per handler and not per call."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    """A handler of any message types: the table of a server mixes them."""
else:
    # Generic in the type stubs only.
    Handler = grpc.RpcMethodHandler

One = Callable[[Any, Any], Awaitable[Any]]
"""Coroutine function (request or requests, context) that returns the response, or None when the
handler writes a stream of responses itself."""
Many = Callable[[Any, Any], AsyncIterator[Any]]
"""Async generator function (request or requests, context) that yields the responses."""


class Wrapper:
    """Makes and remembers the wrapped form of each handler.

    `one` and `many` get the inner behaviour and the method's path, and return the outer behaviour
    of the same kind.
    """

    def __init__(self, one: Callable[[One, str], One], many: Callable[[Many, str], Many]) -> None:
        self._one = one
        self._many = many
        # By identity: handlers compare by value. Holding the handler keeps its id its own.
        self._wrapped: dict[int, tuple[Handler, Handler]] = {}

    def __call__(self, handler: Handler, path: str) -> Handler:
        """Return the wrapped form of the handler of `path`, the same one each time."""
        known = self._wrapped.get(id(handler))
        if known is None:
            known = (handler, self._wrap(handler, path))
            self._wrapped[id(handler)] = known
        return known[1]

    def _wrap(self, handler: Handler, path: str) -> Handler:
        behaviour = behaviour_of(handler)
        if inspect.isasyncgenfunction(behaviour):
            return with_behaviour(handler, self._many(behaviour, path))
        if inspect.iscoroutinefunction(behaviour):
            return with_behaviour(handler, self._one(behaviour, path))
        return with_behaviour(handler, self._one(_as_coroutine(behaviour), path))


def behaviour_of(handler: Handler) -> Callable[..., Any]:
    """Return the one function that a handler has."""
    for behaviour in (
        handler.unary_unary,
        handler.unary_stream,
        handler.stream_unary,
        handler.stream_stream,
    ):
        if behaviour is not None:
            return behaviour
    raise TypeError("a handler without a function")


def with_behaviour(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    """Return a handler of the same kind and message types that does `behaviour`."""
    make = handler_maker(handler.request_streaming, handler.response_streaming)
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def handler_maker(request_streaming: bool, response_streaming: bool) -> Callable[..., Handler]:
    """Return gRPC's constructor for handlers of this kind."""
    kinds: dict[tuple[bool, bool], Callable[..., Handler]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return kinds[request_streaming, response_streaming]


def _as_coroutine(behaviour: Callable[..., Any]) -> One:
    async def call(request: Any, context: Any) -> Any:
        # Only generated base classes have plain functions, and those raise at once.
        return behaviour(request, context)

    return call
