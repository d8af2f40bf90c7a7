"""The last steps before an engine's exec: drop privileges, tie its life to ours, become the engine.

Run as a script by `process.launch`, never imported by it: after a fork in a process that has
threads (grpc, uvloop) no Python may run, so the steps happen in a fresh interpreter. Arguments:

    parent pid · uid · gid (-1 keeps) · signal to get when the parent dies · argv of the engine …
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, uid, gid, death_signal = (int(value) for value in arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    # After setuid: a change of credentials clears the signal.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent died before the engine was started")
    engine = arguments[4:]
    try:
        os.execv(engine[0], engine)  # noqa: S606 - a fixed argument list, no shell
    except OSError as error:
        sys.exit(f"{engine[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
