"""Receiving a file: name, type and size are judged while the bytes pass by, never held whole."""

import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from meshwright_common.errors import invalid
from meshwright_rag.domain.errors import DocumentEmpty, DocumentTooLarge
from meshwright_rag.domain.media_types import HEAD_BYTES, detect
from meshwright_rag.domain.models import StoredFile, Upload, UploadHeader
from meshwright_rag.domain.ports import Documents, Files, KnowledgeBases

MAX_NAME_CHARACTERS: Final = 255
_SEPARATORS: Final = re.compile(r"[/\\]+")
_REFUSED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def display_name(name: str) -> str:
    """Return a file name without its folders, for showing. It never becomes a path of ours.

    Raises: InvalidArgument for control and direction characters (they make a name look like
    another), an empty name and one longer than 255 characters.
    """
    if _REFUSED.search(name):
        raise invalid("header.name", "must not hold control or invisible characters")
    name = unicodedata.normalize("NFC", _SEPARATORS.split(name.rstrip("/\\"))[-1]).strip()
    if not name.strip("."):
        raise invalid("header.name", "must be a file name such as manual.pdf")
    if len(name) > MAX_NAME_CHARACTERS:
        raise invalid("header.name", f"must have at most {MAX_NAME_CHARACTERS} characters")
    return name


class Uploads:
    """Takes files in. `max_bytes` is the size of the largest file."""

    def __init__(
        self,
        knowledge_bases: KnowledgeBases,
        documents: Documents,
        files: Files,
        *,
        max_bytes: int,
    ) -> None:
        self._knowledge_bases = knowledge_bases
        self._documents = documents
        self._files = files
        self._max_bytes = max_bytes

    async def receive(
        self, tenant_id: str, header: UploadHeader, pieces: AsyncIterator[bytes]
    ) -> Upload:
        """Store a file and admit it as a document; its indexing is requested when this returns.

        Raises: InvalidArgument, KnowledgeBaseNotFound, DocumentEmpty, DocumentTooLarge,
        DocumentTypeUnsupported, DocumentBroken (the content is not what the name says),
        DocumentEncrypted; Unavailable. Nothing is left behind then.
        """
        name = display_name(header.name)
        base = await self._knowledge_bases.find(tenant_id, header.knowledge_base_id)
        header = replace(header, name=name, knowledge_base_id=base.knowledge_base_id)
        head = bytearray()
        async for piece in pieces:
            head += piece
            if len(head) >= HEAD_BYTES:
                break
        if len(head) < HEAD_BYTES and not head.strip():
            raise DocumentEmpty()
        media_type = detect(name, header.media_type, bytes(head[:HEAD_BYTES]))
        key = self._files.new_key(tenant_id)
        await self._documents.reserve(tenant_id, key)
        size_bytes, sha256 = await self._files.put(key, self._limited(bytes(head), pieces))
        file = StoredFile(key, size_bytes, sha256, media_type)
        return await self._documents.admit(tenant_id, header, file)

    async def _limited(self, head: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = len(head)
        self._check(size)
        yield head
        async for piece in pieces:
            size += len(piece)
            self._check(size)
            yield piece

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise DocumentTooLarge(limit_bytes=str(self._max_bytes))
