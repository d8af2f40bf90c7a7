"""Points of the code at which a test lets the process die or stand still, as a crash there would.

`MESHWRIGHT_FAILPOINTS` arms them: `task-claimed=kill:0.02,step-journaled=stop:1` lets the process
be killed in one of fifty passes of the first point, and stand still at the second one, until it
gets SIGCONT. Without it a point costs one look at an empty mapping. The names are those of the
crash points in use; an unknown one arms nothing.

Source: the fail points of FreeBSD's fail(9).
"""

import os
import random
import signal
from collections.abc import Mapping
from typing import Final, NamedTuple

VARIABLE: Final = "MESHWRIGHT_FAILPOINTS"
_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class _Fault(NamedTuple):
    signal: signal.Signals
    probability: float


def armed_by(text: str) -> Mapping[str, _Fault]:
    """Return the faults by the names of their points. Raises: ValueError naming the entry."""
    faults: dict[str, _Fault] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, fault = entry.partition("=")
        action, _, probability = fault.partition(":")
        try:
            faults[name] = _Fault(_SIGNALS[action], float(probability or 1))
        except (KeyError, ValueError):
            raise ValueError(f"{VARIABLE}: {entry!r} is not NAME=kill|stop[:PROBABILITY]") from None
    return faults


_armed: Final = armed_by(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> None:
    """Pass a point: do nothing, unless a test armed it."""
    if _armed and (fault := _armed.get(name)) and random.random() < fault.probability:  # noqa: S311
        os.kill(os.getpid(), fault.signal)
