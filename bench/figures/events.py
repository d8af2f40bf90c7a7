"""The event backbone: outbox → relay → Kafka → consumer → ledger, all of it on this machine."""

from __future__ import annotations

import secrets
import select
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from bench.durable_database import durable_database
from bench.event_process import Part, read_moments
from bench.measurement import Measurement
from bench.percentiles import summarise
from bench.processes import ProcessError, module, repository
from bench.targets import Target
from meshwright_common.ids import new_id
from meshwright_common.testing.servers.kafka import KafkaServer

RATE: Final = "events_rate"
DELAY: Final = "events_delay"
ABOUT: Final = {
    RATE: "events/s from outbox to ledger while writers commit them; and by Kafka's client alone",
    DELAY: "from the commit of an event to the commit of its effect, at 1 000 events/s",
}
EVENTS: Final = 60_000
QUICK_EVENTS: Final = 10_000
TOGETHER: Final = 50
"""Events of one commit at full speed: what a busy model router gathers."""
DELAY_RATE: Final = 1000.0
DELAY_SECONDS: Final = 20
DELAY_TOGETHER: Final = 4
LIMIT_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Backbone:
    """A broker, and a database that loses nothing."""

    database: str
    kafka: str

    def part(self, moments: Path, *, events: int, together: int = 1, rate: float = 0.0) -> Part:
        """Return what one run works on: a tenant and topics of its own."""
        return Part(
            database=self.database,
            kafka=self.kafka,
            prefix=f"bench-{secrets.token_hex(4)}.",
            tenant=new_id(),
            events=events,
            together=together,
            rate=rate,
            moments=str(moments),
        )


@contextmanager
def backbone(scratch: Path) -> Iterator[Backbone]:
    """Run PostgreSQL, as the platform does, and Kafka until left."""
    kafka = KafkaServer(scratch / "kafka")
    with durable_database(scratch) as settings:
        kafka.start()
        try:
            yield Backbone(settings.url, f"kafka://{kafka.bootstrap}")
        finally:
            kafka.stop()


def measure(
    wanted: Collection[str], *, repeats: int, quick: bool, scratch: Path
) -> list[Measurement]:
    """Run the wanted figures, client and backbone in turns. Raises: ProcessError."""
    measurements: list[Measurement] = []
    with backbone(scratch) as engines:
        for repeat in range(repeats):
            if RATE in wanted:
                events = QUICK_EVENTS if quick else EVENTS
                measurements += _rate(engines, events, repeat, scratch)
            if DELAY in wanted:
                measurements.append(_delay(engines, repeat, scratch))
    return measurements


def _rate(engines: Backbone, events: int, repeat: int, scratch: Path) -> list[Measurement]:
    part = engines.part(scratch / "effects", events=events, together=TOGETHER)
    with _running("relay", part), _running("consumer", part) as consumer:
        alone = _ran(_started("raw", part))
        client = events / (alone["ended"] - alone["began"])
        writing = structs.replace(part, moments=str(scratch / "commits"))
        written = _ran(_started("writer", writing))
        ended = _said(consumer)["ended"]
    whole = events / (ended - written["began"])
    return [
        Measurement(RATE, Target.RAW, repeat, {"events_per_second": client}),
        Measurement(
            RATE,
            Target.BACKBONE,
            repeat,
            {
                "events_per_second": whole,
                "commits_of_writers_per_second": events / (written["ended"] - written["began"]),
                "events_per_second_vs_raw": whole / client,
            },
        ),
    ]


def _delay(engines: Backbone, repeat: int, scratch: Path) -> Measurement:
    events = round(DELAY_RATE * DELAY_SECONDS)
    part = engines.part(
        scratch / "effects", events=events, together=DELAY_TOGETHER, rate=DELAY_RATE
    )
    writing = structs.replace(part, moments=str(scratch / "commits"))
    with _running("relay", part), _running("consumer", part) as consumer:
        _ran(_started("writer", writing))
        _said(consumer)
    commits, effects = read_moments(scratch / "commits"), read_moments(scratch / "effects")
    delays = [effects[number] - commits[number] for number in range(1, events + 1)]
    # Its first events find everything cold; a platform that runs does not.
    summary = summarise(delays[round(DELAY_RATE * 2) :], scale=1e3)
    return Measurement(
        DELAY,
        Target.BACKBONE,
        repeat,
        {"p50_ms": summary.p50, "p99_ms": summary.p99, "longest_ms": summary.max},
    )


def _started(role: str, part: Part) -> subprocess.Popen[str]:
    return subprocess.Popen(
        module("bench.event_process", role, msgspec.json.encode(part).decode()),
        cwd=repository(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _running(role: str, part: Part) -> Iterator[subprocess.Popen[str]]:
    """Run a part that says when it is ready; end it when left."""
    process = _started(role, part)
    try:
        _line(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def _ran(process: subprocess.Popen[str]) -> dict[str, float]:
    said = _said(process)
    process.communicate()
    return said


def _said(process: subprocess.Popen[str]) -> dict[str, float]:
    return msgspec.json.decode(_line(process), type=dict[str, float])


def _line(process: subprocess.Popen[str]) -> str:
    """Return its next line. Raises: ProcessError when there is none in time."""
    assert process.stdout is not None  # noqa: S101 - asked for at its start
    readable, _, _ = select.select([process.stdout], [], [], LIMIT_SECONDS)
    line = process.stdout.readline() if readable else ""
    if not line:
        raise ProcessError(f"{process.args!r} said nothing within {LIMIT_SECONDS:g} s")
    return line
