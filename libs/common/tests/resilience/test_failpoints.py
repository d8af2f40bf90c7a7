"""Fail points end a process where they are armed, and nowhere else."""

import os
import signal
import subprocess
import sys

import pytest

from meshwright_common.resilience.failpoints import VARIABLE, armed_by

PROGRAM = """
from meshwright_common.resilience.failpoints import failpoint
failpoint("other")
print("before", flush=True)
failpoint("here")
print("after", flush=True)
"""


def run(armed: str) -> subprocess.CompletedProcess[str]:
    """Pass both points."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, VARIABLE: armed},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("armed", "status", "printed"),
    [
        ("", 0, "before\nafter\n"),
        ("here=kill", -signal.SIGKILL, "before\n"),
        ("here=kill:0", 0, "before\nafter\n"),
        ("there=kill", 0, "before\nafter\n"),
        ("there=stop, here=kill:1", -signal.SIGKILL, "before\n"),
    ],
)
def test_only_an_armed_point_is_deadly(armed: str, status: int, printed: str) -> None:
    ended = run(armed)
    assert (ended.returncode, ended.stdout) == (status, printed)


@pytest.mark.parametrize("armed", ["here", "here=burn", "here=kill:often"])
def test_what_arms_nothing_is_refused(armed: str) -> None:
    with pytest.raises(ValueError, match=VARIABLE):
        armed_by(armed)
