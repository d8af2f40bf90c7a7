"""How long what a dead process had to do stood still: from its death until its task goes on.

Deaths are those that the platform's own log tells of, whoever caused them. What the tasks did is
read from the stores: each state and attempt of a task, and each step that it journaled.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import asyncpg

WORKERS: Final = "orchestrator"
"""Its processes hold the tasks; the others do parts of their steps."""
_DIED: Final = b'"member_died"'


@dataclass(frozen=True, slots=True)
class Death:
    """When, in seconds since the epoch, a process of a service died."""

    at: float
    service: str


@dataclass(slots=True)
class DeathLog:
    """The deaths that a platform's log tells of, read while it grows: it keeps only its last part.

    `folder`: the platform's data folder.
    """

    folder: Path
    deaths: list[Death] = field(default_factory=list)
    _read: dict[int, int] = field(default_factory=dict)

    def look(self) -> Sequence[Death]:
        """Read what is new; return all deaths so far, in order."""
        for path in sorted((self.folder / "logs").glob("platform.log*"), reverse=True):
            with suppress(FileNotFoundError), path.open("rb") as file:
                self._take(file)
        self.deaths.sort(key=lambda death: death.at)
        return self.deaths

    def _take(self, file: BinaryIO) -> None:
        # The platform renames it when it is full: told apart by what it is, not by its name.
        inode = os.fstat(file.fileno()).st_ino
        file.seek(self._read.get(inode, 0))
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._read[inode] = self._read.get(inode, 0) + len(line)
            if _DIED in line:
                entry = json.loads(line)
                at = datetime.fromisoformat(entry["timestamp"]).timestamp()
                self.deaths.append(Death(at, str(entry["member"])))


@dataclass(frozen=True, slots=True)
class Moment:
    """A state that a task came into, or with `state` "step" a step that it journaled."""

    at: float
    state: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Recoveries:
    """Seconds for which tasks stood still, each in order of size.

    `taken_over`: their process died, until another attempt began. `held_up`: a service died that
    their step asked, until a step was journaled or the task ended.
    """

    taken_over: Sequence[float]
    held_up: Sequence[float]


def recoveries(deaths: Sequence[Death], tasks: Mapping[str, Sequence[Moment]]) -> Recoveries:
    """Return for how long tasks, each with its moments in order, stood still after deaths."""
    of_workers = [death.at for death in deaths if death.service == WORKERS]
    of_others = [death.at for death in deaths if death.service != WORKERS]
    taken_over = [
        seconds for moments in tasks.values() for seconds in _taken_over(moments, of_workers)
    ]
    held_up = [seconds for moments in tasks.values() for seconds in _held_up(moments, of_others)]
    return Recoveries(sorted(taken_over), sorted(held_up))


def _taken_over(moments: Sequence[Moment], deaths: Sequence[float]) -> Iterator[float]:
    """Yield one time for each attempt that another one followed without any word of the first."""
    states = [moment for moment in moments if moment.state != "step"]
    for before, after in pairwise(states):
        if before.state == after.state == "running":
            died = _first_after(deaths, before.at)
            if died is not None and died < after.at:
                yield after.at - died


def _held_up(moments: Sequence[Moment], deaths: Sequence[float]) -> Iterator[float]:
    """Yield one time for each step that was put off until it could be done."""
    since: float | None = None
    begun = 0.0
    for moment in moments:
        if moment.state == "running":
            begun = moment.at
        elif moment.state == "queued" and moment.attempt > 0:
            if since is None:
                # From the death that broke it off, or when it first found the service away.
                died = _last_before(deaths, moment.at)
                since = begun if died is None else max(begun, died)
        elif since is not None:
            yield moment.at - since
            since = None


def _first_after(deaths: Sequence[float], moment: float) -> float | None:
    place = bisect_right(deaths, moment)
    return deaths[place] if place < len(deaths) else None


def _last_before(deaths: Sequence[float], moment: float) -> float | None:
    place = bisect_right(deaths, moment)
    return deaths[place - 1] if place else None


async def moments_of(connection: asyncpg.Connection[Any]) -> Mapping[str, Sequence[Moment]]:
    """Return what each task of a platform did, in order; `connection` is its superuser's."""
    found: dict[str, list[Moment]] = defaultdict(list)
    for row in await connection.fetch(_MOMENTS):
        found[row["task_id"]].append(Moment(row["at"], row["state"], row["attempt"]))
    return found


_MOMENTS: Final = """
SELECT task_id::text, state, attempt, extract(epoch FROM changed_at)::float8 AS at
  FROM orchestrator.transitions
UNION ALL
SELECT task_id::text, 'step', attempt, extract(epoch FROM created_at)::float8
  FROM orchestrator.steps
 ORDER BY at
"""
