"""Innermost interceptor: whatever a handler raises leaves as a status that a caller may see."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from meshwright_common import context as call_context
from meshwright_common.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    ServiceError,
    Unimplemented,
)
from meshwright_common.rpc import methods
from meshwright_common.rpc.status import INTERNAL_TEXT, from_rpc_error, to_status
from meshwright_common.rpc.whole_requests import whole_requests
from meshwright_common.rpc.wrapping import Handler, Many, One, Wrapper
from meshwright_common.telemetry.logging import get_logger

_logger = get_logger(__name__)


class ErrorsInterceptor(grpc.aio.ServerInterceptor):
    """Turns a `ServiceError` into its status with details, and all else into INTERNAL.

    The text of INTERNAL is fixed; what happened goes to the log.
    """

    def __init__(self) -> None:
        self._wrap = Wrapper(_one, _many)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        return None if handler is None else self._wrap(handler, handler_call_details.method)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError) -> NoReturn:
    """End the call with `error`."""
    await context.abort(*to_status(error, request_id=call_context.current().request_id))


def _one(behaviour: One, path: str) -> One:
    many_requests = _takes_many(path)

    async def serve(request: Any, context: Any) -> Any:
        if many_requests:
            request = whole_requests(request)
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            await _end_if_stray(context)
            raise
        # house: broad-except: the interceptor whose subject is every error
        except Exception as error:
            await abort(context, _presentable(error, context, path))

    return serve


def _many(behaviour: Many, path: str) -> Many:
    many_requests = _takes_many(path)

    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        if many_requests:
            request = whole_requests(request)
        responses: Any = behaviour(request, context)
        try:
            async for response in responses:
                yield response
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            await _end_if_stray(context)
            raise
        # house: broad-except: the interceptor whose subject is every error
        except Exception as error:
            await abort(context, _presentable(error, context, path))
        finally:
            await responses.aclose()

    return serve


def _takes_many(path: str) -> bool:
    facts = methods.method(path)
    return facts is not None and facts.request_streaming


async def _end_if_stray(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """End the call when nobody cancelled it: a CancelledError of something awaited inside.

    grpc.aio would send no status at all, and the caller would wait for its deadline.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling() == 0:
        await abort(context, Cancelled("the work was cancelled"))


def _presentable(
    error: Exception, context: grpc.aio.ServicerContext[Any, Any], path: str
) -> ServiceError:
    if isinstance(error, ExceptionGroup):
        inner = _only_service_errors(error)
        if inner is not None:
            return inner
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, TimeoutError):
        remaining = call_context.remaining_seconds()
        if remaining is not None and remaining <= 0:
            return DeadlineExceeded("the call took longer than its deadline")
    if isinstance(error, grpc.aio.AioRpcError):
        return from_rpc_error(error)
    if isinstance(error, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
        # What the generated base class does for a method that the servicer does not have.
        return Unimplemented("this version does not serve the method")
    _logger.error("handler_failed", method=path, exc_info=error)
    return Internal(INTERNAL_TEXT)


def _only_service_errors(group: ExceptionGroup[Exception]) -> ServiceError | None:
    """Return the first error of a task group whose every error is a `ServiceError`."""
    leaves: list[Exception] = []
    pending: list[Exception] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, ExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    first = leaves[0]
    if isinstance(first, ServiceError) and all(isinstance(leaf, ServiceError) for leaf in leaves):
        return first
    return None
