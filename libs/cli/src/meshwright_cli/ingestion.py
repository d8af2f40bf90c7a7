"""Uploading files and waiting until they can be searched."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from meshwright_cli.exits import CommandError
from meshwright_cli.http_api import Api, ApiError, Disconnected

KNOWN_SUFFIXES: Final = frozenset(
    {".pdf", ".docx", ".html", ".htm", ".md", ".markdown", ".csv", ".txt"}
)
"""What is taken from a folder. A file that is named itself is always tried."""
UPLOADS_AT_ONCE: Final = 3
LOOK_EVERY_SECONDS: Final = 0.3
UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(slots=True)
class Progress:
    """How far the files are. `passages` counts those indexed so far."""

    files: int
    uploaded: int = 0
    indexed: int = 0
    failed: int = 0
    passages: int = 0
    duplicates: int = 0

    @property
    def done(self) -> int:
        """Files that need no more work, in whatever way they ended."""
        return self.indexed + self.failed


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that cannot be searched, and why."""

    file: Path
    reason: str


def files_of(paths: Iterable[Path]) -> tuple[list[Path], int]:
    """Return the files below `paths` in order, and how many of folders were left out.

    Raises: CommandError for a path that is not there.
    """
    files: list[Path] = []
    left_out = 0
    for path in paths:
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if _is_shown_file(one, path)]
            taken = [one for one in inside if one.suffix.lower() in KNOWN_SUFFIXES]
            left_out += len(inside) - len(taken)
            files += taken
        else:
            raise CommandError(f"no such file or folder: {path}")
    return list(dict.fromkeys(files)), left_out


def _is_shown_file(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.is_file()


class Ingestion:
    """Uploads files into one knowledge base and follows their indexing."""

    def __init__(
        self, api: Api, knowledge_base: str, files: Sequence[Path], show: Callable[[Progress], None]
    ) -> None:
        self._api = api
        self._path = f"/api/v1/knowledge-bases/{knowledge_base}/documents"
        self._files = files
        self._show = show
        self._slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self.progress = Progress(len(files))
        self.failures: list[Failure] = []

    async def run(self) -> None:
        """Ingest all files. Failures of files are in `failures`. Raises: Disconnected."""
        async with asyncio.TaskGroup() as group:
            for file in self._files:
                group.create_task(self._ingest(file))

    async def _ingest(self, file: Path) -> None:
        try:
            async with self._slots:
                document_id = await self._upload(file)
            await self._follow(file, document_id)
        except (ApiError, OSError) as error:
            self._fail(file, str(error).replace("\n", "; "))

    async def _upload(self, file: Path) -> str:
        media_type = mimetypes.guess_type(file.name)[0] or UNKNOWN_TYPE
        form = aiohttp.FormData()
        with file.open("rb") as content:
            form.add_field("file", content, filename=file.name, content_type=media_type)
            answer = await self._api.upload(self._path, form)
        self.progress.uploaded += 1
        self.progress.duplicates += bool(answer["duplicate"])
        self._show(self.progress)
        return str(answer["document"]["document_id"])

    async def _follow(self, file: Path, document_id: str) -> None:
        while True:
            document = await self._api.get(f"/api/v1/documents/{document_id}")
            match document["state"]:
                case "ready":
                    self.progress.indexed += 1
                    self.progress.passages += int(document["chunk_count"])
                    self._show(self.progress)
                    return
                case "failed":
                    reason = f"{document['failure_message']} ({document['failure_reason']})"
                    self._fail(file, reason)
                    return
                case "deleted":
                    self._fail(file, "it was deleted while it was being indexed")
                    return
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _fail(self, file: Path, reason: str) -> None:
        self.failures.append(Failure(file, reason))
        self.progress.failed += 1
        self._show(self.progress)


def first_disconnection(errors: ExceptionGroup[Disconnected]) -> Disconnected:
    """Return one of the group: all files broke off for the same reason."""
    found = errors.exceptions[0]
    return found if isinstance(found, Disconnected) else first_disconnection(found)
