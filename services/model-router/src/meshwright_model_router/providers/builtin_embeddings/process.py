"""EmbeddingProvider of the built-in model: a process of its own computes, off the event loop."""

import asyncio
import contextlib
import os
import sys
from array import array
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final

import msgspec

from meshwright_common.errors import invalid
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.domain.errors import ProviderUnavailable
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.providers.builtin_embeddings import frames

DIMENSIONS: Final = 384
BATCH: Final = 16
"""Texts of one request to the process: some 20 ms, which is what a search waits behind indexing."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
STOP_SECONDS: Final = 2.0
"""How long a shutdown waits for answers under way."""
END_SECONDS: Final = 1.0
"""How long a process may take to end by itself once its input ended."""

_MODULE: Final = "meshwright_model_router.providers.builtin_embeddings.worker"
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Environment of the process. Ours holds passwords and keys."""

_logger = get_logger(__name__)


class _Worker:
    """A running process. Requests are answered in their order, so they need no numbers."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
    ) -> None:
        self._process = process
        self._stdin = requests
        self._stdout = answers
        self._waiting: deque[asyncio.Future[frames.Embeddings]] = deque()
        self.alive = True

    async def ask(self, texts: list[str]) -> frames.Embeddings:
        """Return the answer to a request. A caller may give up at any time."""
        answer: asyncio.Future[frames.Embeddings] = asyncio.get_running_loop().create_future()
        # No await between the two, so that both queues have the same order.
        self._waiting.append(answer)
        self._stdin.write(frames.frame(frames.Texts(texts)))
        with contextlib.suppress(ConnectionError):
            await self._stdin.drain()
        return await answer

    async def read(self) -> None:
        """Hand out answers until the process ends."""
        try:
            while True:
                header = await self._stdout.readexactly(frames.LENGTH.size)
                (length,) = frames.LENGTH.unpack(header)
                body = await self._stdout.readexactly(length)
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(frames.decode_embeddings(body))
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            pass  # it ended; what follows is the same for every way to end
        finally:
            self.alive = False
            for answer in self._waiting:
                if not answer.done():
                    answer.set_exception(
                        ProviderUnavailable("The embedding process ended unexpectedly.")
                    )
            await self._reap()

    def close(self) -> None:
        """Let the process end once it has answered."""
        self._stdin.close()

    async def _reap(self) -> None:
        self._stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class BuiltinEmbeddings:
    """EmbeddingProvider. Made by `open_builtin_embeddings`; its process starts when needed."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._closed = False

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int, seconds_left: float | None
    ) -> Vectors:
        if dimensions not in {0, DIMENSIONS}:
            raise invalid("dimensions", f"must be 0 or {DIMENSIONS} for {model!r}")
        values: list[array[float]] = []
        tokens = 0
        for start in range(0, len(texts), BATCH):
            worker = await self._running()
            batch = list(texts[start : start + BATCH])
            answer = await worker.ask(batch)
            numbers = array("f")
            numbers.frombytes(answer.vectors)
            if len(numbers) != DIMENSIONS * len(batch):
                raise ProviderUnavailable("The embedding process answered with the wrong length.")
            values += [numbers[at : at + DIMENSIONS] for at in range(0, len(numbers), DIMENSIONS)]
            tokens += answer.tokens
        return Vectors(values, tokens)

    async def warm_up(self) -> None:
        """Start the process before somebody waits for it; if that fails, the first call tells."""
        with contextlib.suppress(ProviderUnavailable):
            await self._running()

    async def _running(self) -> _Worker:
        worker = self._worker
        if worker is not None and worker.alive:
            return worker
        async with self._starting:
            if self._closed:
                raise ProviderUnavailable("The service is shutting down.")
            if self._worker is None or not self._worker.alive:
                self._worker = await self._start()
            return self._worker

    async def _start(self) -> _Worker:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # nothing is imported from the current folder
                "-m",
                _MODULE,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                limit=MAX_ANSWER_BYTES,
            )
        except OSError as error:
            raise ProviderUnavailable("The embedding process cannot be started.") from error
        _logger.info("embedding_process_started", process_id=process.pid)
        if process.stdin is None or process.stdout is None:
            raise ProviderUnavailable("The embedding process has no pipes.")
        worker = _Worker(process, process.stdin, process.stdout)
        # house: naked-task: kept in _readers until done; close waits for it
        task = asyncio.create_task(worker.read(), context=Context())
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)
        return worker

    async def close(self) -> None:
        """End the process once it has answered what it was asked."""
        self._closed = True
        if self._worker is not None:
            self._worker.close()
        if self._readers:
            _, late = await asyncio.wait(self._readers, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()  # which kills its process
            if late:
                await asyncio.wait(late)


@asynccontextmanager
async def open_builtin_embeddings() -> AsyncIterator[BuiltinEmbeddings]:
    """Give the provider; leaving the block ends its process."""
    embeddings = BuiltinEmbeddings()
    try:
        yield embeddings
    finally:
        await embeddings.close()
