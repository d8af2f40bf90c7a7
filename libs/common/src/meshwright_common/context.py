"""Who calls, until when, and under which ids: bound per call, read anywhere below it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final, Literal

from meshwright_common import kept_trace
from meshwright_common.errors import Unauthenticated
from meshwright_common.ids import new_id, new_trace_parent

PrincipalKind = Literal["user", "service"]

MESH_INTERNAL: Final = "mesh:internal"
"""Permission of calls that only services make. No user and no API key ever holds it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose identity was verified."""

    tenant_id: str
    subject: str
    kind: PrincipalKind
    permissions: frozenset[str]
    roles: tuple[str, ...] = ()

    def has(self, permission: str) -> bool:
        """Return whether the principal holds exactly this permission."""
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class CallContext:
    """What one call carries. `deadline` is on the `time.monotonic` scale; None: no deadline.

    `retry_attempt` is above 0 when somebody up the call repeats it already: nothing below may.
    `traceparent` is the current span's, or that of the caller while no spans are made here;
    `tracestate` is what tracers of others said beside it.
    """

    principal: Principal | None = None
    deadline: float | None = None
    request_id: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    retry_attempt: int = 0
    tracestate: str = ""

    @property
    def trace(self) -> str:
        """Its trace, as it is kept with work that is done later (`kept_trace`)."""
        return kept_trace.joined(self.traceparent, self.tracestate)

    def traced(self, traceparent: str) -> "CallContext":
        """Return the same context below another span."""
        return CallContext(
            self.principal,
            self.deadline,
            self.request_id,
            self.correlation_id,
            traceparent,
            self.retry_attempt,
            self.tracestate,
        )


_EMPTY: Final = CallContext()
_current: ContextVar[CallContext] = ContextVar("meshwright_call", default=_EMPTY)


def current() -> CallContext:
    """Return the context of the call being served; an empty one outside any call."""
    return _current.get()


def principal() -> Principal:
    """Return the caller. Raises: Unauthenticated when nobody is bound."""
    caller = _current.get().principal
    if caller is None:
        raise Unauthenticated("no caller is bound to this work")
    return caller


def remaining_seconds() -> float | None:
    """Return the seconds left for the current call, negative when over; None: no deadline."""
    deadline = _current.get().deadline
    return None if deadline is None else deadline - time.monotonic()


@contextmanager
def bind(context: CallContext) -> Iterator[CallContext]:
    """Make `context` the current one inside the block, for this task and tasks it creates."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def enter(context: CallContext) -> None:
    """Make `context` the current one for the rest of this task. For the servers' interceptors."""
    _current.set(context)


def service_context(
    service: str, tenant_id: str, permissions: Iterable[str], *, timeout_seconds: float | None
) -> CallContext:
    """Return a context for work with no user behind it: an explicit tenant and explicit rights.

    Ids of the current call are kept, new ones are made when there is none. `timeout_seconds`
    counts from now; None: no deadline (each call made inside still has its own).
    """
    outer = _current.get()
    request_id = outer.request_id or new_id()
    return CallContext(
        principal=Principal(tenant_id, service, "service", frozenset(permissions)),
        deadline=None if timeout_seconds is None else time.monotonic() + timeout_seconds,
        request_id=request_id,
        correlation_id=outer.correlation_id or request_id,
        traceparent=outer.traceparent or new_traceparent(),
        retry_attempt=outer.retry_attempt,
        tracestate=outer.tracestate,
    )


def as_service(service: str, *permissions: str) -> CallContext:
    """Return the current context with `service` itself as the caller, for calls between services.

    Tenant, deadline and ids stay those of the call being served.
    Raises: Unauthenticated when nobody is bound.
    """
    own = Principal(principal().tenant_id, service, "service", frozenset(permissions))
    return replace(_current.get(), principal=own)


def new_traceparent() -> str:
    """Return a W3C trace parent that starts a new, unsampled trace."""
    return new_trace_parent()
