"""Run a server that binds all interfaces where there is none but the loopback, and lead to it.

Run as a script by `servers.milvus`, never imported for more than its path. Arguments:

    port here (loopback) · port in the namespace · argv of the server …

A socket stays in the network namespace in which it was made: what is bound before the process
moves keeps taking connections from outside, and each is passed on to the server inside.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
LOOPBACK = "127.0.0.1"
BLOCK_BYTES = 256 * 1024
LAUNCHER = Path(__file__).resolve().parents[2] / "storage" / "embedded" / "launch.py"


def enter_namespace() -> None:
    """Move this process into a network namespace of its own and bring its loopback up."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"no network namespace ({reason}): be root or allow unprivileged user namespaces")
    if uid != 0:
        # Without a mapping of ourselves, no file could be made.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends, then end the other side."""
    try:
        while block := await source.read(BLOCK_BYTES):
            target.write(block)
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()


async def serve(listening: socket.socket, port: int, command: list[str]) -> int:
    """Run `command`, pass every connection on to its port, and return its exit status."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        writer.close()
        inner_writer.close()

    prelude = (sys.executable, "-I", "-S", str(LAUNCHER))
    death = ("-1", "-1", str(int(signal.SIGKILL)))
    server = await asyncio.create_subprocess_exec(*prelude, str(os.getpid()), *death, *command)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.terminate)
    async with await asyncio.start_server(forward, sock=listening):
        return await server.wait()


def main(arguments: list[str]) -> None:
    """Listen here, move there, run the server."""
    listening = socket.create_server((LOOPBACK, int(arguments[0])))
    enter_namespace()
    status = asyncio.run(serve(listening, int(arguments[1]), arguments[2:]))
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(sys.argv[1:])
