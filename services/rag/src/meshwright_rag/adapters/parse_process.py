"""Parsing in worker processes: started when needed, confined, ended when idle."""

import asyncio
import contextlib
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, cast

import orjson

from meshwright_common.errors import Unavailable
from meshwright_rag.domain.chunking import ChunkSizes
from meshwright_rag.domain.errors import DocumentBroken, DocumentLimit, rejection
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.models import NewPassage, Outline
from meshwright_rag.domain.parsed import ParseLimits
from meshwright_rag.domain.ports import Reading

_MODULE: Final = "meshwright_rag.parse_worker"
_LENGTH: Final = struct.Struct(">I")
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")
"""Environment of a worker. Ours holds passwords, a worker reads files of strangers."""

_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE})
_STOP_SECONDS: Final = 2.0


class ParseProcesses:
    """Implements `Reader`. At most `most` documents are read at once, each in its own process.

    A process without work for `idle_seconds` is ended. `timeout_seconds` is for parsing, and again
    for each batch of passages, while somebody waits for it. `memory_bytes` is the address space of
    one process. Close it with `close`.
    """

    def __init__(
        self, *, most: int, timeout_seconds: float, idle_seconds: float, memory_bytes: int
    ) -> None:
        self._slots = asyncio.Semaphore(most)
        self._timeout_seconds = timeout_seconds
        self._idle_seconds = idle_seconds
        self._memory_bytes = memory_bytes
        self._idle: dict[_Worker, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def read(
        self, path: Path, media_type: MediaType, *, limits: ParseLimits, sizes: ChunkSizes
    ) -> AsyncIterator[Reading]:
        async with self._slots:
            worker = self._take() or await _Worker.start(self._memory_bytes)
            try:
                await worker.send(
                    {
                        "path": str(path),
                        "media_type": media_type,
                        "limits": asdict(limits),
                        "sizes": asdict(sizes),
                    }
                )
                answer = await self._receive(worker)
                outline = Outline(*cast("list[int]", answer["outline"]))
                yield Reading(outline, self._batches(worker))
            finally:
                if worker.at_rest and worker.alive:
                    self._keep(worker)
                else:
                    # Part of an answer may still be on its way: of no use to anybody else.
                    await asyncio.shield(worker.kill())

    async def _batches(self, worker: "_Worker") -> AsyncIterator[Sequence[NewPassage]]:
        while "end" not in (answer := await self._receive(worker)):
            rows = cast("list[list[object]]", answer["passages"])
            yield [_passage(row) for row in rows]
        worker.at_rest = True

    async def _receive(self, worker: "_Worker") -> dict[str, object]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await worker.receive()
        except TimeoutError as error:
            raise DocumentLimit(limit=f"{self._timeout_seconds:g} seconds of parsing") from error
        if "error" in answer:
            reason, message, metadata = cast("tuple[str, str, dict[str, str]]", answer["error"])
            raise rejection(reason, message, metadata)
        return answer

    def _take(self) -> "_Worker | None":
        while self._idle:
            worker, timer = self._idle.popitem()
            timer.cancel()
            if worker.alive:
                return worker
        return None

    def _keep(self, worker: "_Worker") -> None:
        loop = asyncio.get_running_loop()
        self._idle[worker] = loop.call_later(self._idle_seconds, self._end, worker)

    def _end(self, worker: "_Worker") -> None:
        if self._idle.pop(worker, None):
            # house: naked-task: kept in _ending; close() waits for it
            task = asyncio.get_running_loop().create_task(worker.stop(), name="end-parse-worker")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End every process that has no work. Those at work are ended by their readers."""
        for worker in tuple(self._idle):
            self._end(worker)
        if self._ending:
            await asyncio.wait(self._ending)


class _Worker:
    """One process. `at_rest`: it has answered everything it was asked."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.at_rest = True

    @classmethod
    async def start(cls, memory_bytes: int) -> "_Worker":
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", _MODULE, str(memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            env=environment,
        )  # fmt: skip
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, request: dict[str, object]) -> None:
        self.at_rest = False
        body = orjson.dumps(request)
        assert self._process.stdin is not None  # noqa: S101 - it was made with a pipe
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(_LENGTH.pack(len(body)) + body)
            await self._process.stdin.drain()

    async def receive(self) -> dict[str, object]:
        """Return the next answer. Raises: DocumentBroken, Unavailable when the process died."""
        assert self._process.stdout is not None  # noqa: S101 - it was made with a pipe
        try:
            header = await self._process.stdout.readexactly(_LENGTH.size)
            body = await self._process.stdout.readexactly(*_LENGTH.unpack(header))
        except asyncio.IncompleteReadError as error:
            raise self._death(await self._process.wait()) from error
        answer: dict[str, object] = orjson.loads(body)
        self.at_rest = "error" in answer
        return answer

    @staticmethod
    def _death(code: int) -> DocumentBroken | Unavailable:
        if -code in _CRASHES:
            return DocumentBroken(detail=f"the reader crashed (signal {-code})")
        return Unavailable("the process that parses documents ended", exit_code=str(code))

    async def stop(self) -> None:
        """Let the process end by itself; kill it when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _passage(row: list[object]) -> NewPassage:
    ordinal, text, start, end, page, path, terms, term_count = row
    return NewPassage(
        ordinal=cast(int, ordinal),
        text=cast(str, text),
        start=cast(int, start),
        end=cast(int, end),
        page=cast("int | None", page),
        heading_path=tuple(cast("list[str]", path)),
        terms=cast(str, terms),
        term_count=cast(int, term_count),
    )
