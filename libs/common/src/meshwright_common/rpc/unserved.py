"""Methods that are declared but not served yet: one answer, from the flag in the proto."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from meshwright_common.errors import Unimplemented
from meshwright_common.rpc import methods
from meshwright_common.rpc.wrapping import Handler, handler_maker, with_behaviour


class NotYetServed(Unimplemented):
    """The method is in the protos; a later version serves it."""

    reason = "NOT_YET_SERVED"
    text = "this version does not serve {method} yet"


class UnservedInterceptor(grpc.aio.ServerInterceptor):
    """Answers UNIMPLEMENTED, reason NOT_YET_SERVED, for methods with `not_yet_served`.

    It sits inside the others, so a caller without the permission learns nothing from it.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        facts = methods.method(path)
        if handler is None or facts is None or not facts.not_yet_served:
            return handler
        known = self._handlers.get(path)
        if known is None:
            known = with_behaviour(handler, _refusal_of(path))
            self._handlers[path] = known
        return known


def add_unserved_service(service_name: str, server: grpc.aio.Server) -> None:
    """Register a service of which no method is served yet, without a servicer.

    Its generated module must be imported. `verify_services` refuses the start when a method of it
    lacks the flag. Raises: KeyError when no loaded proto has the service.
    """
    service = descriptor_pool.Default().FindServiceByName(service_name)
    handlers: dict[str, Handler] = {}
    for method in service.methods:
        make = handler_maker(method.client_streaming, method.server_streaming)
        handlers[method.name] = make(
            unserved,
            GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, handlers),))
    server.add_registered_method_handlers(service_name, handlers)


async def unserved(_request: Any, _context: Any) -> None:
    """Be the handler of a method that nobody serves."""
    raise NotYetServed(method="the method")


def _refusal_of(path: str) -> Callable[[Any, Any], Awaitable[None]]:
    async def refuse(_request: Any, _context: Any) -> None:
        raise NotYetServed(method=path)

    return refuse
