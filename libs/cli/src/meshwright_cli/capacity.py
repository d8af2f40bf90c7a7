"""From what is asked of a platform to cores, memory, storage and partitions: arithmetic, no guess.

Every figure was measured by `bench/` and says where it stands. All are of the arrangement with one
process a service on one machine (2 cores of an AMD EPYC), engines and generator on the same: CPU
of a request includes PostgreSQL's and Redis'. docs/capacity.md has the model and its limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from meshwright_common.settings import SERVICE_NAMES

RESULTS: Final = "bench/RESULTS.md"
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its unit in its name, and where it comes from."""

    value: float
    source: str


REQUEST_CPU_MILLISECONDS: Final = Figure(1.792, f"{RESULTS}, 2026-11-28T11:23Z, ns32")
"""Of a request under /v1 that is not streamed, without its tokens."""
TURN_CPU_MILLISECONDS: Final = Figure(23.424, f"{RESULTS}, 2026-11-20T21:41Z, turns32")
TURN_GROWTH: Final = Figure(
    15.475 / 9.091,
    f"{RESULTS}, turns32 of one process, 2026-11-28T08:57Z over 2026-11-20T21:41Z",
)
"""Turns have become dearer since, with one process for all; with one a service it was not measured
again, so it is taken to be the same."""
TOKEN_CPU_MILLISECONDS: Final = Figure(142.1 / 1000, f"{RESULTS}, 2026-11-28T11:23Z, s100")
"""Of a streamed token at 50 tokens/s; with five times the streams it is 0.04 (s500)."""
WORKER_TASKS_PER_SECOND: Final = Figure(1501.77, f"{RESULTS}, 2026-11-28T04:58Z, dispatch")
"""Of one worker whose agent does nothing, on RabbitMQ."""
CONSUMER_EVENTS_PER_SECOND: Final = Figure(10177.13, f"{RESULTS}, 2026-11-28T06:00Z, events_rate")
"""Of one ledger consumer, from the outbox over Kafka to the commit."""
SERVICES_MIB: Final = Figure(644.0, f"{RESULTS}, 2026-11-28T11:23Z, s500, of services")
"""Of one process each of the seven services under load."""

PARTITIONS: Final = 12
"""The setting's default, MESHWRIGHT_EVENTS__PARTITIONS."""
SERVICES: Final = len(SERVICE_NAMES)
LEAST_INSTANCES: Final = 2
"""Of each service: one may go."""
KAFKA_COPIES: Final = 3
KAFKA_DAYS: Final = 180
"""The longest retention of a topic, audit.log: an upper bound for all."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """What PostgreSQL keeps of one thing, with indexes, in bytes; and how many events it makes.

    Without the outbox, which holds events for a day once a broker has them.
    """

    each: float
    events: float


STORED_SOURCE: Final = "python -m bench.stored_bytes, 2026-11-28, 400 of each"
"""Questions of 230 characters, answers of 64 tokens, passages of 130 words."""
REQUEST: Final = StoredBytes(3_502.0 - 1_843.0, 1.0)
TURN: Final = StoredBytes(41_636.0 - 7_393.0, 4.3)
TASK: Final = StoredBytes(16_814.0 - 6_717.0, 4.1)
PASSAGE: Final = StoredBytes(8_602.0, 0.0)
EVENT_BYTES: Final = Figure(7_393 / 4.3, f"{STORED_SOURCE}: outbox of a turn, with its indexes")


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for, at its peak: per second. `busy_hours` a day at this rate make a day.

    `tokens_per_answer` are streamed for each request, turn and task. `headroom` is the share of
    the machines that stays free at the peak.
    """

    requests_per_second: float = 0.0
    turns_per_second: float = 0.0
    tasks_per_second: float = 0.0
    tokens_per_answer: float = 200.0
    passages: int = 0
    keep_days: int = 365
    busy_hours: float = 8.0
    headroom: float = 0.5
    cores_per_node: int = 8

    def __post_init__(self) -> None:
        for name in ("requests_per_second", "turns_per_second", "tasks_per_second", "passages"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")
        if not 0 <= self.headroom < 1:
            raise ValueError("headroom: must be at least 0 and below 1")
        if self.cores_per_node < 1:
            raise ValueError("cores_per_node: must be at least 1")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer: what, how much, and how it came about."""

    what: str
    amount: float
    unit: str
    because: str


def plan(demand: Demand) -> list[Line]:
    """Return what the demand needs: machines, the event log, storage."""
    answers = demand.requests_per_second + demand.turns_per_second + demand.tasks_per_second
    return [
        *_machines(demand, answers),
        *_log(demand),
        *_storage(demand),
    ]


def busy_cores(demand: Demand) -> dict[str, float]:
    """Return the cores that are busy at the peak, by what keeps them so."""
    turn = TURN_CPU_MILLISECONDS.value * TURN_GROWTH.value / 1000
    answers = demand.requests_per_second + demand.turns_per_second + demand.tasks_per_second
    return {
        "requests": demand.requests_per_second * REQUEST_CPU_MILLISECONDS.value / 1000,
        # A task is a turn that nobody waits for, and a place in a queue besides.
        "turns": demand.turns_per_second * turn,
        "tasks": demand.tasks_per_second * (turn + 1 / WORKER_TASKS_PER_SECOND.value),
        "tokens": answers * demand.tokens_per_answer * TOKEN_CPU_MILLISECONDS.value / 1000,
    }


def _machines(demand: Demand, answers: float) -> list[Line]:
    busy = busy_cores(demand)
    cores = sum(busy.values()) / (1 - demand.headroom)
    nodes = max(LEAST_INSTANCES, math.ceil(cores / demand.cores_per_node))
    # One process holds one core: so many sets of seven processes as there are cores for one.
    sets = max(LEAST_INSTANCES, math.ceil(cores / SERVICES))
    parts = ", ".join(f"{name} {value:.2f}" for name, value in busy.items() if value)
    return [
        Line("cores", cores, "cores", f"busy: {parts or 'none'}; {demand.headroom:.0%} stay free"),
        Line("nodes", nodes, f"of {demand.cores_per_node} cores", f"at least {LEAST_INSTANCES}"),
        Line(
            "memory of services",
            sets * SERVICES_MIB.value / 1024,
            "GiB",
            f"{sets} processes of each of {SERVICES} services; {SERVICES_MIB.source}",
        ),
        Line(
            "tokens", answers * demand.tokens_per_answer, "tokens/s", "what providers have to give"
        ),
    ]


def _log(demand: Demand) -> list[Line]:
    events = _events_per_second(demand)
    consumers = max(
        LEAST_INSTANCES,
        math.ceil(events / CONSUMER_EVENTS_PER_SECOND.value / (1 - demand.headroom)),
    )
    # A partition has one consumer; twice as many leave room to grow without moving keys.
    partitions = max(PARTITIONS, 2 * consumers)
    stored = events * _busy_seconds(demand) * KAFKA_DAYS * EVENT_BYTES.value * KAFKA_COPIES
    return [
        Line("events", events, "events/s", f"{STORED_SOURCE}: rows of the outbox"),
        Line("ledger consumers", consumers, "processes", CONSUMER_EVENTS_PER_SECOND.source),
        Line("Kafka partitions", partitions, "a topic", f"default {PARTITIONS}, 2 a consumer"),
        Line(
            "Kafka storage",
            stored / GIB,
            "GiB",
            f"at most: {KAFKA_DAYS} days, {KAFKA_COPIES} copies; {EVENT_BYTES.source}",
        ),
    ]


def _storage(demand: Demand) -> list[Line]:
    seconds = _busy_seconds(demand) * demand.keep_days
    rows = {
        "turns": demand.turns_per_second * seconds * TURN.each,
        "tasks": demand.tasks_per_second * seconds * TASK.each,
        "requests": demand.requests_per_second * seconds * REQUEST.each,
        "passages": demand.passages * PASSAGE.each,
        "outbox": _events_per_second(demand) * _busy_seconds(demand) * EVENT_BYTES.value,
    }
    parts = ", ".join(f"{name} {value / GIB:.1f}" for name, value in rows.items() if value)
    return [
        Line(
            "PostgreSQL",
            sum(rows.values()) / GIB,
            "GiB",
            f"{parts or 'nothing'}; kept for {demand.keep_days} days; {STORED_SOURCE}",
        )
    ]


def _events_per_second(demand: Demand) -> float:
    return (
        demand.turns_per_second * TURN.events
        + demand.tasks_per_second * TASK.events
        + demand.requests_per_second * REQUEST.events
    )


def _busy_seconds(demand: Demand) -> float:
    return demand.busy_hours * 3600
