"""The edge of a trace: what comes from strangers, and what strangers are told.

Nobody outside learns of a trace unless a setting names the host: a trace id lets a provider tie
requests of different users together, and a host that takes traces has to be one of ours to join
them. Baggage is neither taken nor sent.
"""

from collections.abc import Sequence
from typing import Final

from meshwright_common import context

_ANY_BELOW: Final = "*."


class _State:
    """One per process."""

    hosts: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    trust_callers = False


def configure(hosts: Sequence[str], *, trust_callers: bool) -> None:
    """Tell `hosts` of traces: names, or `*.` and a domain. `trust_callers`: see `obeys_callers`."""
    names = [host.lower() for host in hosts]
    _State.domains = tuple(name[1:] for name in names if name.startswith(_ANY_BELOW))
    _State.hosts = frozenset(name for name in names if not name.startswith(_ANY_BELOW))
    _State.trust_callers = trust_callers


def obeys_callers() -> bool:
    """Return whether clients of the public API decide if their trace is recorded."""
    return _State.trust_callers


def is_told(host: str) -> bool:
    """Return whether requests to `host` carry the trace."""
    name = host.lower()
    return name in _State.hosts or bool(_State.domains and name.endswith(_State.domains))


def headers_for(host: str) -> dict[str, str]:
    """Return the headers that a request to `host` carries for the current call: mostly none."""
    if not (_State.hosts or _State.domains) or not is_told(host):
        return {}
    call = context.current()
    if not call.traceparent:
        return {}
    headers = {"traceparent": call.traceparent}
    if call.tracestate:
        headers["tracestate"] = call.tracestate
    return headers
