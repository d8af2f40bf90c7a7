"""A document after parsing: one normalised text, and blocks that point into it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from meshwright_rag.domain.errors import DocumentEmpty, DocumentLimit
from meshwright_rag.domain.text import normalise

MAX_HEADING_CHARACTERS: Final = 200
"""A longer heading is a paragraph in disguise; it is cut in heading paths, not in the text."""


class BlockKind(StrEnum):
    """What a block of text is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE_ROW = "table_row"
    CODE = "code"


_LINE_BY_LINE: Final = frozenset({BlockKind.LIST_ITEM, BlockKind.TABLE_ROW})


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of `ParsedDocument.text`: characters `start` (included) to `end` (excluded).

    `page` counts from 1; None: the format has no pages. `heading_path` is outermost first and,
    for a heading, ends with the heading itself.
    """

    kind: BlockKind
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser returns. Blocks are in order and do not overlap. An empty title: unknown."""

    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    page_count: int | None = None
    charset: str | None = None


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What reading one document may take. More is refused with DOCUMENT_LIMIT."""

    max_pages: int = 5_000
    max_text_characters: int = 20_000_000
    max_unpacked_bytes: int = 200 * 1024 * 1024
    max_unpack_ratio: int = 100
    max_archive_entries: int = 1_000
    max_passages: int = 50_000


@dataclass(slots=True)
class DocumentBuilder:
    """Collects the blocks of one document and keeps text, offsets and heading path together.

    `text` grows with every call; each method normalises what it is given and ignores nothing
    but emptiness. Raises: DocumentLimit when the text gets longer than the limit.
    """

    limits: ParseLimits
    title: str = ""
    _pieces: list[str] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _length: int = 0
    _path: list[tuple[int, str]] = field(default_factory=list)

    def add(self, kind: BlockKind, text: str, *, page: int | None = None) -> None:
        """Append a block under the current heading path."""
        text = normalise(text, keep_blanks=kind is BlockKind.CODE)
        if not text:
            return
        if self._blocks:
            together = kind in _LINE_BY_LINE and self._blocks[-1].kind is kind
            separator = "\n" if together else "\n\n"
            self._pieces.append(separator)
            self._length += len(separator)
        start = self._length
        self._length += len(text)
        if self._length > self.limits.max_text_characters:
            limit = f"{self.limits.max_text_characters} characters of text"
            raise DocumentLimit(limit=limit)
        self._pieces.append(text)
        path = tuple(title for _, title in self._path)
        self._blocks.append(Block(kind, start, self._length, page, path))

    def heading(self, level: int, text: str, *, page: int | None = None) -> None:
        """Append a heading; it and the blocks after it stand under it until a peer comes.

        `level` counts from 1, outermost first; gaps between levels are fine.
        """
        if self.enter(level, text):
            self.add(BlockKind.HEADING, text, page=page)

    def enter(self, level: int, title: str) -> bool:
        """Set the heading path without adding text. Return False for an empty title."""
        title = " ".join(normalise(title).split())[:MAX_HEADING_CHARACTERS]
        if not title:
            return False
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, title))
        return True

    def build(self, *, page_count: int | None = None, charset: str | None = None) -> ParsedDocument:
        """Return the document. Raises: DocumentEmpty when no block holds text."""
        if not self._blocks:
            raise DocumentEmpty("the file holds no text that can be searched")
        return ParsedDocument(
            text="".join(self._pieces),
            blocks=tuple(self._blocks),
            title=" ".join(normalise(self.title).split())[:MAX_HEADING_CHARACTERS],
            page_count=page_count,
            charset=charset,
        )
