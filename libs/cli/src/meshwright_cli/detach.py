"""`up --detach`: the same command in a session of its own, followed until it is ready."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from meshwright_cli.exits import CommandError, Exit
from meshwright_common.storage.embedded.process import log_tail

OUTPUT_LOG = "up.log"


def run_detached(data: Path, arguments: Sequence[str]) -> None:
    """Start `meshwright up` that outlives us; print its progress until it is ready.

    Raises: CommandError with its exit code and its last words when it ends before.
    """
    command = [sys.executable, "-m", "meshwright_cli", "up", "--data", str(data), *arguments]
    errors = data / "logs" / OUTPUT_LOG
    try:
        errors.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = errors.open("wb")
    except OSError as error:
        raise CommandError(
            f"the data folder {data} cannot be written ({error.strerror}): choose another one "
            "with --data",
            Exit.REFUSED,
        ) from None
    with file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
    with process.stdout as progress:  # type: ignore[union-attr] # it is a pipe
        for line in progress:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            if line.startswith(b"ready "):
                # It prints nothing any more: closing our end of the pipe cannot hurt it.
                return
    said = log_tail(errors).replace("error: ", "")
    code = process.wait()
    raise CommandError(
        said or f"it ended with {code}", Exit(code) if code in set(Exit) else Exit.FAILED
    )
