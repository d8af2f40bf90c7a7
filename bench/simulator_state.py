"""What the simulated provider remembers while it runs."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

import msgspec

from bench import directives
from bench.directives import ReplyPlan

KEPT_REQUESTS = 200


@dataclass(slots=True)
class Counters:
    """What the simulator did since it started."""

    requests: int = 0
    chat: int = 0
    embeddings: int = 0
    failed: int = 0
    """Requests answered with an error status or a planned fault."""
    tokens: int = 0
    """Of output that was sent."""
    prompt_tokens: int = 0
    """Of input, of requests that began to be answered."""
    abandoned: int = 0
    """Streams whose reader left before their end."""
    open_streams: int = 0


class ReceivedRequest(msgspec.Struct):
    """A request as the simulator got it; kept only with `record`."""

    path: str
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class Simulator:
    """The running simulator."""

    record: bool = False
    port: int = 0
    counters: Counters = field(default_factory=Counters)
    requests: deque[ReceivedRequest] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    attempts: Counter[str] = field(default_factory=Counter)
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def base_url(self) -> str:
        """The URL that a client is configured with, with /v1."""
        return f"http://127.0.0.1:{self.port}/v1"

    def plan_for(self, directive: str) -> ReplyPlan:
        """Return the plan of a directive, without its faults when they are used up."""
        plan = directives.parse(directive)
        if not plan.faulty:
            return plan
        if plan.failures is not None:
            self.attempts[directive] += 1
            if self.attempts[directive] > plan.failures:
                return plan.healthy()
        self.counters.failed += 1
        return plan
