"""What load is, and what came of it."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from bench.percentiles import Summary

MAX_CONNECTIONS = 5000
MAX_SECONDS = 600.0
MAX_REQUESTS = 1_000_000
LATE_MICROSECONDS = 50_000
"""A token that took longer than this to pass counts as late."""


class LoadError(ValueError):
    """The load asked for is out of bounds or not aimed at this machine."""


class Kind(StrEnum):
    """Which API is called."""

    COMPLETION = "completion"
    COMPLETION_STREAM = "completion-stream"
    TURN_STREAM = "turn-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard and how long. Ends at the first of `seconds` and `max_requests`."""

    connections: int = 1
    seconds: float = 1.0
    max_requests: int = MAX_REQUESTS
    rate: float | None = None
    """Requests per second, sent on schedule (open loop). None: each connection sends its next
    request when its last is answered (closed loop)."""
    ramp_seconds: float = 0.0
    """The connections of a closed loop start spread over this time."""
    drain_seconds: float = 10.0
    """How long to wait for answers under way at the end; after that they are errors."""

    def __post_init__(self) -> None:
        """Raises: LoadError naming the value that is out of bounds."""
        bounds: Mapping[str, tuple[float, float]] = {
            "connections": (1, MAX_CONNECTIONS),
            "seconds": (0.01, MAX_SECONDS),
            "max_requests": (1, MAX_REQUESTS),
            "ramp_seconds": (0, MAX_SECONDS),
            "drain_seconds": (0, MAX_SECONDS),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise LoadError(f"{name} must be between {low:g} and {high:g}")
        if self.rate is not None and not 0 < self.rate <= MAX_REQUESTS:
            raise LoadError(f"rate must be above 0 and at most {MAX_REQUESTS}")


@dataclass(frozen=True, slots=True)
class Address:
    """A server on this machine."""

    host: str
    port: int


def loopback_address(url: str) -> Address:
    """Return host and port of an HTTP URL. Raises: LoadError unless it is loopback."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "http" or not loopback:
        raise LoadError(f"load is only sent to http:// on this machine's loopback, not to {url!r}")
    return Address(host, parts.port or 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The request that is sent again and again."""

    kind: Kind
    prompt: str
    """The user's message; a directive in it tells the simulator what to answer."""
    model: str = "sim"
    agent: str = "chat"
    """For turns: which agent answers."""
    expected_tokens: int = 0
    api_key: str = "sk-sim"

    def request(self, address: Address) -> bytes:
        """Return the request as bytes on the wire."""
        path, accept = "/v1/chat/completions", "application/json"
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.kind is Kind.COMPLETION_STREAM:
            accept = "text/event-stream"
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        elif self.kind is Kind.TURN_STREAM:
            path, accept = "/api/v1/chat", "text/event-stream"
            body = {"message": self.prompt, "agent": self.agent}
        data = msgspec.json.encode(body)
        host = f"[{address.host}]" if ":" in address.host else address.host
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {host}:{address.port}\r\n"
            f"authorization: Bearer {self.api_key}\r\naccept: {accept}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What came of a load. `requests` are the right answers; wrong ones are in `errors`."""

    requests: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    requests_per_second: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0
    latency_ms: Summary = field(default_factory=Summary)
    refused_ms: Summary = field(default_factory=Summary)
    """Until a 429 or 503 was there."""
    first_token_ms: Summary = field(default_factory=Summary)
    transit_ms: Summary = field(default_factory=Summary)
    late_token_share: float = 0.0

    @property
    def failed(self) -> int:
        """Number of wrong or missing answers."""
        return sum(self.errors.values())
