"""What may be wrong with a provider, and deployments of the simulated one that are."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

TIMEOUTS: Final = {"connect_seconds": 2, "first_byte_seconds": 2, "idle_seconds": 2}
"""Nobody waits here for half a minute."""
HEALTHY: Final = "sim-n6"
UNREACHABLE: Final = {
    "refused": "http://127.0.0.1:9/v1",
    "dns": "http://nowhere.invalid/v1",
    "tls": "https://{place}/v1",
}


class Fault(NamedTuple):
    """A fault, the reason that a caller is told, and its status. `amid`: text came before it."""

    name: str
    directive: str
    reason: str
    status: int
    amid: bool = False

    def model(self, kind: str, form: str) -> str:
        """Return a model of a kind of deployment that has it; each form of asking has its own."""
        return f"sim-id:{kind}.{self.name}.{form}" + (
            f"-{self.directive}" if self.directive else ""
        )


_GONE: Final = ("PROVIDER_UNAVAILABLE", 503)
_LATE: Final = ("PROVIDER_TIMEOUT", 504)
_CUT: Final = ("PROVIDER_TRUNCATED", 502)
_WRONG: Final = ("PROVIDER_PROTOCOL", 502)
_LIMITED: Final = ("PROVIDER_RATE_LIMIT", 429)

FAULTS: Final = (
    Fault("limited", "err429", *_LIMITED),
    Fault("paused", "err429-retryafter3600", *_LIMITED),
    Fault("e500", "err500", *_GONE),
    Fault("e502", "err502", *_GONE),
    Fault("e503", "err503", *_GONE),
    Fault("closed", "refuse", *_GONE),
    Fault("silent", "hang", *_LATE),
    Fault("stalled", "n3-stall0", *_LATE),
    Fault("empty", "n3-truncate0", *_CUT),
    Fault("json", "n3-sse:badjson", *_WRONG),
    Fault("type", "n3-sse:contenttype", *_WRONG),
    Fault("comments", "n3-sse:endlesscomments", *_LATE),
    Fault("fin", "n20-tps100-truncate9", *_CUT, amid=True),
    Fault("rst", "n20-tps100-reset9", *_CUT, amid=True),
    Fault("quiet", "n20-tps100-stall9", *_LATE, amid=True),
    Fault("sorry", "n20-tps100-fault9", *_GONE, amid=True),
)
"""F-52 to F-56: each alone, and each with a healthy deployment beside it."""
LIES: Final = (
    *("usage:missing", "usage:negative", "usage:absurd", "usage:text", "sse:crlf", "sse:bytes1"),
    *("sse:split", "sse:multiline", "sse:comments", "sse:bom", "sse:fields", "sse:doubledone"),
    *("sse:afterdone", "sse:badutf8", "sse:surrogate", "sse:gzip"),
)
"""F-56, F-57: what a caller is not bothered with."""


def deployments(provider_url: str) -> list[dict[str, Any]]:
    """Return deployments: `one` alone, `two` with a healthy one behind it, the same for addresses
    where nobody is, and `mend` and `heal` for faults that pass: each has a retry budget.
    """
    place = provider_url.removeprefix("http://")
    here = f"{provider_url}/v1"
    made = [_deployment(kind, here) for kind in ("one", "mend", "heal")]
    made += _pair("two", here, here)
    for name, address in UNREACHABLE.items():
        nowhere = address.format(place=place)
        made.append(_deployment(f"one.{name}", nowhere))
        made += _pair(f"two.{name}", nowhere, here)
    return made


def _pair(kind: str, first: str, second: str) -> list[dict[str, Any]]:
    healthy = _deployment(kind, second) | {
        "name": f"faults-{kind}-second",
        "provider_model": HEALTHY,
        "priority": 90,
    }
    return [_deployment(kind, first), healthy]


def _deployment(kind: str, base_url: str) -> dict[str, Any]:
    return {
        "name": f"faults-{kind}",
        "model": f"sim-id:{kind}.*",
        "provider_model": "*",
        "base_url": base_url,
        "timeouts": TIMEOUTS,
    }


def unreachable() -> tuple[Fault, ...]:
    """Return the faults of addresses where nobody is."""
    return tuple(Fault(name, "", *_GONE) for name in UNREACHABLE)
