"""Parsing in confined processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from meshwright_rag.adapters.parse_process import ParseProcesses
from meshwright_rag.domain.chunking import ChunkSizes
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.models import NewPassage, Outline
from meshwright_rag.domain.parsed import ParseLimits
from services.rag.tests.pdfs import Text, make_pdf

MEMORY = 1024 * 1024 * 1024


def children() -> list[int]:
    """The processes that are there to parse."""
    pids = [
        int(pid)
        for listed in Path("/proc/self/task").glob("*/children")
        for pid in listed.read_text().split()
    ]
    return [pid for pid in pids if b"parse_worker" in _of(pid, "cmdline")]


def _of(pid: int, fact: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{fact}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest_asyncio.fixture
async def processes() -> AsyncIterator[ParseProcesses]:
    made = ParseProcesses(most=1, timeout_seconds=10, idle_seconds=60, memory_bytes=MEMORY)
    yield made
    await made.close()


async def read(
    processes: ParseProcesses,
    path: Path,
    media_type: MediaType = MediaType.TEXT,
    limits: ParseLimits | None = None,
) -> tuple[Outline, list[NewPassage]]:
    async with processes.read(
        path, media_type, limits=limits or ParseLimits(), sizes=ChunkSizes()
    ) as reading:
        passages = [one async for batch in reading.batches for one in batch]
    return reading.outline, passages


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.asyncio
async def test_passages_come_with_their_terms(processes: ParseProcesses, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "1.2 网络接口\n\n如何配置 apt-get？")
    outline, (passage,) = await read(processes, path)
    assert outline == Outline(page_count=0, passage_count=1)
    assert passage.heading_path == ("1.2 网络接口",)
    assert "'网络':16383A,3" in passage.terms
    assert "'apt-get':" in passage.terms
    assert passage.term_count > 5


@pytest.mark.asyncio
async def test_a_long_document_comes_in_batches(processes: ParseProcesses, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 20_000)
    outline, passages = await read(processes, path)
    assert [one.ordinal for one in passages] == list(range(outline.passage_count))
    assert outline.passage_count > 200


@pytest.mark.asyncio
async def test_one_process_reads_one_document_after_another(
    processes: ParseProcesses, tmp_path: Path
) -> None:
    await read(processes, write(tmp_path / "a", "one"))
    first = children()
    await read(processes, write(tmp_path / "b", "two"))
    assert children() == first
    assert len(first) == 1


@pytest.mark.asyncio
async def test_a_process_without_work_ends(tmp_path: Path) -> None:
    processes = ParseProcesses(most=1, timeout_seconds=10, idle_seconds=0, memory_bytes=MEMORY)
    await read(processes, write(tmp_path / "a", "one"))
    await eventually(lambda: not children())
    await processes.close()


@pytest.mark.asyncio
async def test_a_refusal_keeps_the_process(processes: ParseProcesses, tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as error:
        await read(processes, write(tmp_path / "a", "  "))
    assert error.value.reason == "DOCUMENT_EMPTY"
    assert len(children()) == 1


@pytest.mark.asyncio
async def test_a_reader_that_stops_early_leaves_no_half_answer(
    processes: ParseProcesses, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 20_000)
    async with processes.read(
        path, MediaType.TEXT, limits=ParseLimits(), sizes=ChunkSizes()
    ) as reading:
        await anext(aiter(reading.batches))
    assert children() == []
    _, passages = await read(processes, write(tmp_path / "b", "two"))
    assert [one.text for one in passages] == ["two"]


@pytest.mark.asyncio
async def test_a_killed_process_is_worth_another_attempt(
    processes: ParseProcesses, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 20_000)
    async with processes.read(
        path, MediaType.TEXT, limits=ParseLimits(), sizes=ChunkSizes()
    ) as reading:
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServiceError) as error:
            async for _ in reading.batches:
                pass
    assert error.value.code == "UNAVAILABLE"
    assert (await read(processes, write(tmp_path / "b", "two")))[1]


@pytest.mark.asyncio
async def test_a_crashed_process_means_a_broken_document(
    processes: ParseProcesses, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 20_000)
    async with processes.read(
        path, MediaType.TEXT, limits=ParseLimits(), sizes=ChunkSizes()
    ) as reading:
        os.kill(children()[0], signal.SIGSEGV)
        with pytest.raises(ServiceError) as error:
            async for _ in reading.batches:
                pass
    assert error.value.reason == "DOCUMENT_BROKEN"


@pytest.mark.asyncio
async def test_parsing_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    processes = ParseProcesses(most=1, timeout_seconds=0.01, idle_seconds=60, memory_bytes=MEMORY)
    with pytest.raises(ServiceError) as error:
        await read(processes, write(tmp_path / "a", "one"))
    assert error.value.reason == "DOCUMENT_LIMIT"
    assert children() == []


@pytest.mark.asyncio
async def test_a_document_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    processes = ParseProcesses(
        most=1, timeout_seconds=20, idle_seconds=60, memory_bytes=120 * 1024 * 1024
    )
    path = write(tmp_path / "a", "word " * 3_000_000)
    with pytest.raises(ServiceError) as error:
        await read(processes, path, limits=ParseLimits(max_text_characters=10**9))
    assert error.value.reason == "DOCUMENT_LIMIT"
    assert error.value.metadata["limit"] == "memory"
    await processes.close()


@pytest.mark.asyncio
async def test_too_many_passages_are_refused(processes: ParseProcesses, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 20_000)
    with pytest.raises(ServiceError) as error:
        await read(processes, path, limits=ParseLimits(max_passages=10))
    assert error.value.metadata["limit"] == "10 passages"


@pytest.mark.asyncio
async def test_secrets_of_the_service_are_not_in_the_process(
    processes: ParseProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWRIGHT_DATABASE__URL", "postgresql://u:secret@h/d")
    await read(processes, write(tmp_path / "a", "one"))
    (pid,) = children()
    environment = _of(pid, "environ")
    assert b"PATH=" in environment
    assert b"secret" not in environment


@pytest.mark.asyncio
async def test_cancelling_ends_the_process(processes: ParseProcesses, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "This is a sentence. " * 200_000)
    task = asyncio.create_task(read(processes, path))
    await eventually(lambda: bool(children()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not children())


@pytest.mark.asyncio
async def test_pages_come_through(processes: ParseProcesses, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf([[Text("one")], [Text("two")]]))
    outline, passages = await read(processes, path, MediaType.PDF)
    assert outline.page_count == 2
    assert [one.page for one in passages] == [1, 2]
