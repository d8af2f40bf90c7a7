"""Markdown: CommonMark with tables; headings, lists, code and raw HTML keep their meaning."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from selectolax.lexbor import LexborHTMLParser

from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.parsers.charset import decode

_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_FRONT_TITLE: Final = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_MAX_NESTING: Final = 100


def parse_markdown(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return the text without markup. Raises: DocumentEncoding, DocumentEmpty, DocumentLimit."""
    text, charset = decode(path.read_bytes())
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    title = ""
    front = _FRONT_MATTER.match(text)
    if front:
        found = _FRONT_TITLE.search(front[1])
        title = found[1] if found else ""
        text = text[front.end() :]
    builder = DocumentBuilder(limits, title=title)
    reader = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table")
    _Walk(builder).run(reader.parse(text))
    return builder.build(charset=charset)


class _Walk:
    """Turns the flat list of tokens into blocks."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._level = 0
        self._bullets: list[str] = []
        self._numbers: list[int] = []
        self._cells: list[str] | None = None

    def run(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            handler = getattr(self, f"_on_{token.type}", None)
            if handler is not None:
                handler(token)

    def _on_heading_open(self, token: Token) -> None:
        self._level = int(token.tag[1:])

    def _on_heading_close(self, token: Token) -> None:
        self._level = 0

    def _on_bullet_list_open(self, token: Token) -> None:
        self._numbers.append(-1)

    def _on_bullet_list_close(self, token: Token) -> None:
        self._numbers.pop()

    def _on_ordered_list_open(self, token: Token) -> None:
        self._numbers.append(int(token.attrGet("start") or 1))

    _on_ordered_list_close = _on_bullet_list_close

    def _on_list_item_open(self, token: Token) -> None:
        number = self._numbers[-1]
        self._bullets.append("• " if number < 0 else f"{number}. ")
        if number >= 0:
            self._numbers[-1] += 1

    def _on_list_item_close(self, token: Token) -> None:
        self._bullets.pop()

    def _on_tr_open(self, token: Token) -> None:
        self._cells = []

    def _on_tr_close(self, token: Token) -> None:
        cells, self._cells = self._cells or [], None
        self._builder.add(BlockKind.TABLE_ROW, " | ".join(cells) if any(cells) else "")

    def _on_inline(self, token: Token) -> None:
        text = _inline_text(token.children or ())
        if self._cells is not None:
            self._cells.append(" ".join(text.split()))
        elif self._level:
            self._builder.heading(self._level, text)
        elif self._bullets:
            # The bullet belongs to the first paragraph of the item only.
            self._builder.add(BlockKind.LIST_ITEM, self._bullets[-1] + text)
            self._bullets[-1] = ""
        else:
            self._builder.add(BlockKind.PARAGRAPH, text)

    def _on_fence(self, token: Token) -> None:
        self._builder.add(BlockKind.CODE, token.content)

    _on_code_block = _on_fence

    def _on_html_block(self, token: Token) -> None:
        self._builder.add(BlockKind.PARAGRAPH, _html_text(token.content))


def _inline_text(tokens: Sequence[Token]) -> str:
    pieces = []
    for token in tokens:
        if token.type in {"softbreak", "hardbreak"}:
            pieces.append(" " if token.type == "softbreak" else "\n")
        elif token.type == "image":
            pieces.append(_inline_text(token.children or ()))
        elif token.type in {"text", "code_inline", "text_special"}:
            pieces.append(token.content)
    return "".join(pieces)


def _html_text(content: str) -> str:
    tree = LexborHTMLParser(_COMMENT.sub("", content))
    for node in tree.css("script, style"):
        node.decompose()
    return tree.body.text(separator=" ", strip=True) if tree.body else ""
