"""How the command ends: its exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command; `meshwright --help` lists them."""

    OK = 0
    FAILED = 1
    """It was tried and did not work: a file was refused, a service failed, an answer is missing."""
    REFUSED = 2
    """Nothing was tried: wrong usage or settings, an address in use, already running."""
    NOT_RUNNING = 3
    """No platform runs on the data folder, or none answers at the address."""


HELP = (
    "Exit codes: 0 done · 1 tried and failed · 2 refused: wrong usage or settings, address in use, "
    "already running · 3 no platform is running · 130, 143 ended by a second signal."
)


class CommandError(Exception):
    """Ends the command: its text goes to standard error, one line a mistake."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def refused(message: str) -> CommandError:
    """Return the error of something that was not even tried."""
    return CommandError(message, Exit.REFUSED)
