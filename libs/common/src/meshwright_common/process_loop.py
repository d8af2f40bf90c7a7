"""The event loop of a process: uvloop, whose child processes start without a fork of ours.

Trap: uvloop forks, and fork runs what libraries registered for it. gRPC's handler waits there for
its threads, with the interpreter locked, while one of them wants the interpreter to answer a
handshake of TLS: neither goes on. Python's own `subprocess` uses vfork, which runs no handlers,
copies no page tables, and gives the child nothing but the program it is to become.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import Callable
from typing import Any, TypeVar

import uvloop

P = TypeVar("P", bound=asyncio.SubprocessProtocol)


class ProcessLoop(uvloop.Loop):
    """uvloop with `subprocess_exec`, on which `asyncio.create_subprocess_exec` stands, by vfork."""

    # uvloop's stub calls the transport a protocol.
    async def subprocess_exec(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], P],
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **options: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        protocol = protocol_factory()
        connected: asyncio.Future[None] = self.create_future()
        transport = _Child(
            self,
            protocol,
            args,
            False,
            stdin,
            stdout,
            stderr,
            bufsize=0,
            waiter=connected,
            **options,
        )
        try:
            transport.watch()
            await connected
        except BaseException:
            transport.close()
            await transport.wait_end()
            raise
        return transport, protocol


class _Child(BaseSubprocessTransport):
    """A running child process, as asyncio's own loops have it; its end is told by a pidfd."""

    _loop: ProcessLoop
    _proc: subprocess.Popen[bytes]

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **options: Any,
    ) -> None:
        ours: socket.socket | None = None
        theirs = stdin
        if stdin == subprocess.PIPE:
            # As asyncio's: its other end tells us when the child closes it, which a pipe does not.
            theirs, ours = socket.socketpair()
        try:
            self._proc = subprocess.Popen(
                args,
                shell=shell,
                stdin=theirs,
                stdout=stdout,
                stderr=stderr,
                bufsize=bufsize,
                **options,
            )
            if ours is not None:
                self._proc.stdin = open(ours.detach(), "wb", buffering=bufsize)  # noqa: SIM115 - the transport closes it
        finally:
            if ours is not None:
                theirs.close()
                ours.close()

    def watch(self) -> None:
        """Have the end of the process told."""
        number = os.pidfd_open(self._proc.pid)

        def ended() -> None:
            self._loop.remove_reader(number)
            os.close(number)
            # It has ended: this does not wait.
            self._process_exited(self._proc.wait())

        self._loop.add_reader(number, ended)

    async def wait_end(self) -> None:
        """Return when the process has ended."""
        await self._wait()
