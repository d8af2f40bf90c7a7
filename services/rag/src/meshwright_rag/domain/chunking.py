"""Cutting a parsed document into passages of a size that models and readers like.

A passage is one span of the document's text. It never crosses a page, so that a citation names
exactly one page; it starts at a heading where it can, ends at a sentence where it can, and begins
with the last sentences of the passage before it when both stand under the same heading.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from meshwright_rag.domain.parsed import Block, BlockKind, ParsedDocument
from meshwright_rag.domain.text import CHARACTERS_PER_TOKEN, estimate_tokens, sentence_spans

SLACK: Final = 1.25
"""A passage may grow to this multiple of the target to take in a remainder."""


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Sizes in tokens (`estimate_tokens`): about 4 characters of English, 1 of Chinese.

    `target`: a passage is cut when the next sentence would make it longer than this.
    `overlap`: how much of the passage before it a passage repeats, at most.
    `least`: a smaller piece joins a neighbour when page and slack allow.
    """

    target: int = 320
    overlap: int = 48
    least: int = 80

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.target or not 0 <= self.least <= self.target:
            raise ValueError("sizes must be 0 <= overlap < target and 0 <= least <= target")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text` is the document's text from `start` to `end`.

    `ordinal` counts from 0 through the document. `page` counts from 1; None: no pages.
    """

    ordinal: int
    start: int
    end: int
    text: str
    page: int | None
    heading_path: tuple[str, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Atom:
    """What is never cut again: a sentence, or a part of an endless one."""

    start: int
    end: int
    tokens: int
    path: tuple[str, ...]
    opens_section: bool


def chunk(document: ParsedDocument, sizes: ChunkSizes) -> Iterator[Chunk]:
    """Yield the passages of the document in order. Their spans cover every block.

    What stands under no heading has the document's title as its heading path.
    """
    ordinal = 0
    title = (document.title,) if document.title else ()
    for page, blocks in groupby(document.blocks, key=lambda block: block.page):
        for atoms, start in _pack(_atoms(document.text, list(blocks), sizes), sizes):
            end = atoms[-1].end
            text = document.text[start:end].rstrip()
            yield Chunk(
                ordinal=ordinal,
                start=start,
                end=start + len(text),
                text=text,
                page=page,
                heading_path=_common_path(atoms) or title,
                tokens=estimate_tokens(text),
            )
            ordinal += 1


def _atoms(text: str, blocks: list[Block], sizes: ChunkSizes) -> Iterator[_Atom]:
    for block in blocks:
        opens = block.kind is BlockKind.HEADING
        for start, end in sentence_spans(text, block.start, block.end):
            for part_start, part_end, tokens in _parts(text, start, end, sizes.target):
                yield _Atom(part_start, part_end, tokens, block.heading_path, opens)
                opens = False


def _parts(text: str, start: int, end: int, target: int) -> Iterator[tuple[int, int, int]]:
    """Cut a sentence that is longer than a passage, at blanks where there are any."""
    while (tokens := estimate_tokens(text[start:end])) > target:
        # Every character is at most one token, so `target` characters always fit.
        cut = start + target
        wider = min(end, start + target * CHARACTERS_PER_TOKEN)
        while cut < wider and estimate_tokens(text[start : cut + target // 4]) <= target:
            cut += target // 4 or 1
        cut = min(cut, end - 1)
        blank = text.rfind(" ", start + (cut - start) // 2, cut)
        if blank > 0:
            cut = blank + 1
        yield start, cut, estimate_tokens(text[start:cut])
        start = cut
    yield start, end, tokens


def _pack(atoms: Iterator[_Atom], sizes: ChunkSizes) -> Iterator[tuple[list[_Atom], int]]:
    """Yield groups of atoms, each with the offset where its passage begins (overlap included)."""
    held: tuple[list[_Atom], int] | None = None
    group: list[_Atom] = []
    size = 0
    start = 0
    for atom in atoms:
        new_section = atom.opens_section and size >= sizes.least
        if group and (new_section or size + atom.tokens > sizes.target):
            if held:
                yield held
            held = (group, start)
            lead = [] if new_section else _lead(group, sizes.overlap, atom)
            start = lead[0].start if lead else atom.start
            size = sum(item.tokens for item in lead)
            group = []
        if not group and not size:
            start = atom.start
        group.append(atom)
        size += atom.tokens
    if not group:
        return
    if held:
        own = sum(item.tokens for item in group)
        before = sum(item.tokens for item in held[0])
        if own < sizes.least and before + own <= sizes.target * SLACK:
            yield held[0] + group, held[1]
            return
        yield held
    yield group, start


def _lead(group: list[_Atom], overlap: int, following: _Atom) -> list[_Atom]:
    """Return the last atoms of `group` that the next passage repeats, at most `overlap` tokens."""
    lead: list[_Atom] = []
    size = 0
    for atom in reversed(group[1:]):
        size += atom.tokens
        if size > overlap or atom.path != following.path:
            break
        lead.insert(0, atom)
    return lead


def _common_path(atoms: list[_Atom]) -> tuple[str, ...]:
    """Return the heading path that all atoms share."""
    path = atoms[0].path
    for atom in atoms:
        while atom.path[: len(path)] != path:
            path = path[:-1]
    return path
