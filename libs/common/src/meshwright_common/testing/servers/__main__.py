"""Start and stop the servers for tests by hand, or around a command.

    python -m meshwright_common.testing.servers up      start them, detached, and say where they are
    python -m meshwright_common.testing.servers status  say where they are
    python -m meshwright_common.testing.servers down    stop them and delete their data
    python -m meshwright_common.testing.servers run -- COMMAND …
                                                        run COMMAND between start and stop

`--folder` holds their data (default: .engines), `--only NAME …` chooses some. Whoever runs COMMAND
finds MESHWRIGHT_TEST_ENGINES in its environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import EngineFailed, FolderLock
from meshwright_common.testing.servers.catalogue import SERVERS
from meshwright_common.testing.servers.together import (
    ENGINES_VARIABLE,
    FILE_NAME,
    read_places,
    running_together,
)

DEFAULT_FOLDER: Final = Path(".engines")
LOCK_NAME: Final = "keeper.lock"
"""Held by the process that the servers live and die with; its pid stands in it."""
LOG_NAME: Final = "keeper.log"
UP_SECONDS: Final = 400.0
DOWN_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1


def up(folder: Path, names: Sequence[str]) -> None:
    """Start a keeper on `folder` unless there is one, and return when all servers answer.

    Raises: EngineFailed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_kept(folder):
        (folder / FILE_NAME).unlink(missing_ok=True)
        module = ("-m", "meshwright_common.testing.servers")
        with (folder / LOG_NAME).open("wb") as log:
            keeper = subprocess.Popen(
                (sys.executable, *module, "keep", "--folder", folder, "--only", *names),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process.wait_until(
            lambda: (folder / FILE_NAME).exists() or keeper.poll() is not None,
            timeout_seconds=UP_SECONDS,
            poll_seconds=POLL_SECONDS,
        )
    if not (folder / FILE_NAME).exists():
        said = process.log_tail(folder / LOG_NAME, lines=60)
        down(folder)
        raise EngineFailed(said or f"stopped meanwhile, or no answer within {UP_SECONDS:g} s")


def keep(folder: Path, names: Sequence[str]) -> NoReturn:
    """Run the servers until SIGTERM. Raises: EngineFailed."""
    lock = FolderLock(folder / LOCK_NAME, program="python")
    lock.acquire(timeout_seconds=2.0)
    lock.record(os.getpid())
    _end_by_exit(signal.SIGTERM)
    with running_together(folder, names):
        while True:
            signal.pause()


def down(folder: Path) -> None:
    """End the keeper of `folder`, its servers with it, and delete their data; may be repeated."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _is_kept(folder):
            os.kill(int((folder / LOCK_NAME).read_text()), number)
            process.wait_until(
                lambda: not _is_kept(folder),
                timeout_seconds=DOWN_SECONDS,
                poll_seconds=POLL_SECONDS,
            )
    # The folder may be anybody's choice: only what is known to be ours goes.
    for name in SERVERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (FILE_NAME, LOG_NAME, LOCK_NAME):
        (folder / name).unlink(missing_ok=True)


def status(folder: Path) -> bool:
    """Print where the servers are and how to use them; say whether they run."""
    file = folder / FILE_NAME
    if not _is_kept(folder) or not file.exists():
        print(f"no servers run on {folder}")
        return False
    places = read_places(file)
    for name, place in places.items():
        print(f"{name:14} {place.address}")
    print("\n# what points a platform at them, and the tests")
    told: set[str] = set()
    for name, place in places.items():
        for variable, value in place.variables.items():
            instead = "# or: " if variable in told else ""
            print(f"{instead}export {variable}='{value}'  # {name}")
        told |= place.variables.keys()
    print(f"export {ENGINES_VARIABLE}='{file.resolve()}'")
    return True


def run(names: Sequence[str], command: Sequence[str]) -> int:
    """Run `command` between start and stop, with data in a temporary folder; return its status.

    Raises: EngineFailed.
    """
    _end_by_exit(signal.SIGTERM)
    with (
        tempfile.TemporaryDirectory(prefix="meshwright-engines-") as folder,
        running_together(Path(folder), names),
    ):
        file = str(Path(folder) / FILE_NAME)
        child = subprocess.Popen(command, env={**os.environ, ENGINES_VARIABLE: file})
        # Ctrl-C reaches the command by itself; the servers are stopped when it has ended.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


def _is_kept(folder: Path) -> bool:
    if not (folder / LOCK_NAME).exists():
        return False
    lock = FolderLock(folder / LOCK_NAME, program="python")
    try:
        lock.acquire(timeout_seconds=0.0)
    except EngineFailed:
        return True
    lock.release()
    return False


def _end_by_exit(number: signal.Signals) -> None:
    """Let the first such signal unwind the stack; more of them do not disturb the stopping."""

    def leave(*_: object) -> NoReturn:
        signal.signal(number, lambda *_: None)
        sys.exit(0)

    signal.signal(number, leave)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="servers", description="Real servers for tests.")
    parser.add_argument("action", choices=("up", "down", "status", "run", "keep"))
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", nargs="+", choices=tuple(SERVERS), default=tuple(SERVERS))
    # What follows a bare "--" is the command's, its options too.
    words = sys.argv[1:]
    own = words[: words.index("--")] if "--" in words else words
    arguments = parser.parse_args(own)
    arguments.command = words[len(own) + 1 :]
    # Servers run in folders of their own.
    arguments.folder = arguments.folder.resolve()
    if (arguments.action == "run") != bool(arguments.command):
        parser.error("run takes a command after --, and nothing else does")
    return arguments


def main() -> int:
    """Do what the command line says; return the exit status."""
    arguments = _arguments()
    try:
        match arguments.action:
            case "run":
                return run(arguments.only, arguments.command)
            case "keep":
                keep(arguments.folder, arguments.only)
            case "up":
                up(arguments.folder, arguments.only)
            case "down":
                down(arguments.folder)
                return 0
        return 0 if status(arguments.folder) else 1
    except EngineFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
