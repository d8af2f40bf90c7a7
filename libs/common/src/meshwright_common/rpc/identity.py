"""Interceptor: who calls, and may they. Whatever is not declared is denied."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

import grpc
import grpc.aio

from meshwright_common import context as call_context
from meshwright_common.context import CallContext, Principal
from meshwright_common.errors import PermissionDenied, ServiceError, Unauthenticated
from meshwright_common.identity.denials import DenialKind, Denials
from meshwright_common.identity.permissions import NO_PERMISSION
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.rpc import methods
from meshwright_common.rpc.errors_interceptor import abort
from meshwright_common.rpc.wrapping import Handler, with_behaviour

_SCHEME: Final = "bearer "
_refusal: ContextVar[ServiceError] = ContextVar("meshwright_refusal")


class IdentityInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call pass when its token verifies and holds the permission of the method.

    Tenant, user and permissions come from the token alone; any other metadata that claims an
    identity is ignored. Two `authorization` entries are refused: readers would disagree on which
    one counts. Paths that no proto declares are not found, or denied if something answers them.
    What is refused is noted in `denials`.
    """

    def __init__(self, verifier: TokenVerifier, denials: Denials | None = None) -> None:
        self._verifier = verifier
        self._denials = denials or Denials()
        self._refusers: dict[int, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        facts = methods.method(handler_call_details.method)
        if facts is not None and facts.is_open:
            return handler
        principal: Principal | None = None
        try:
            principal = self._authenticate(handler_call_details.invocation_metadata)
            _authorise(principal, "" if facts is None else facts.permission)
        except (Unauthenticated, PermissionDenied) as error:
            self._note(handler_call_details.method, principal, error)
            _refusal.set(error)
            return self._refuser(handler)
        call = call_context.current()
        call_context.enter(
            CallContext(
                principal,
                call.deadline,
                call.request_id,
                call.correlation_id,
                call.traceparent,
                call.retry_attempt,
                call.tracestate,
            )
        )
        return handler

    def _note(self, path: str, principal: Principal | None, error: ServiceError) -> None:
        if principal is None:
            kind = DenialKind("login.refused", resource="grpc", reason=error.reason.lower())
        else:
            kind = DenialKind(
                "permission.denied",
                tenant_id=principal.tenant_id,
                actor=principal.subject,
                resource=f"rpc{path}",
                reason=error.metadata.get("permission", "undeclared"),
            )
        self._denials.note(kind)

    def _authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        credential: str | bytes | None = None
        for name, value in metadata:
            if name == "authorization":
                if credential is not None:
                    raise Unauthenticated("more than one authorization was sent")
                credential = value
        if not isinstance(credential, str) or credential[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("send a token as: authorization: Bearer <token>")
        return self._verifier.verify(credential[len(_SCHEME) :])

    def _refuser(self, handler: Handler) -> Handler:
        known = self._refusers.get(id(handler))
        if known is None:
            known = (handler, with_behaviour(handler, _refuse))
            self._refusers[id(handler)] = known
        return known[1]


def _authorise(principal: Principal, permission: str) -> None:
    if permission in ("", NO_PERMISSION):
        raise PermissionDenied("the method declares no permission")
    if not principal.has(permission):
        raise PermissionDenied(f"the permission {permission} is missing", permission=permission)


async def _refuse(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await abort(context, _refusal.get())
