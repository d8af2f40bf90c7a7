"""HTML: the text a reader sees, without navigation, scripts and hidden parts."""

import re
from pathlib import Path
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from meshwright_rag.domain.errors import DocumentEmpty
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.parsers.charset import decode

_UNSEEN: Final = (
    "script, style, noscript, template, svg, math annotation, canvas, iframe, object, embed, "
    "nav, footer, form, button, select, dialog, [hidden], [aria-hidden=true], [role=navigation], "
    "[role=banner], [role=contentinfo], [role=search], .headerlink, .navheader, .navfooter, .toc, "
    ".docnav, .sphinxsidebar, [class*=breadcrumb], [class*=pagination], "
    "[style*='display:none'], [style*='display: none'], [style*='visibility:hidden']"
)
_MAIN: Final = ("main", "[role=main]", "article")
_MAIN_SHARE: Final = 0.5
"""A `<main>` is taken as the whole document when it holds at least this share of the text."""

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = frozenset((
    "html", "body", "div", "section", "article", "main", "header", "aside", "p", "ul", "ol",
    "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th",
    "blockquote", "pre", "figure", "figcaption", "details", "summary", "address", "center",
    "fieldset", "legend", "hgroup", "menu", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "textarea",
))  # fmt: skip
_LAYOUT: Final = "table, pre, h1, h2, h3, h4, h5, h6"
"""A table row that holds one of these is layout: its cells are read like sections."""

_LINE_BREAK: Final = "\x1e"
"""Stands for <br> while blanks are collapsed; never part of a document (a control character)."""

_META_CHARSET: Final = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([a-zA-Z0-9_:.-]+)|<\?xml[^>]+encoding=["']([^"']+)""",
    re.IGNORECASE,
)
_META_BYTES: Final = 4096
_BLANKS: Final = re.compile(rf"[^\S{_LINE_BREAK}]+")
_BREAKS: Final = re.compile(rf" ?{_LINE_BREAK} ?")


def parse_html(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return the visible text. Raises: DocumentEncoding, DocumentEmpty, DocumentLimit."""
    raw = path.read_bytes()
    declared = _META_CHARSET.search(raw[:_META_BYTES])
    label = (declared[1] or declared[2]).decode("ascii", "replace") if declared else None
    text, charset = decode(raw, declared=label)
    return html_document(text, limits, charset=charset)


def html_document(text: str, limits: ParseLimits, *, charset: str | None = None) -> ParsedDocument:
    """Return the visible text of HTML that is decoded already."""
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    builder = DocumentBuilder(limits, title=title.text() if title else "")
    root = _root(tree)
    if root is None:
        raise DocumentEmpty()
    _Walk(builder).run(root)
    return builder.build(charset=charset)


def _root(tree: LexborHTMLParser) -> LexborNode | None:
    body = tree.body
    if body is None:
        return None
    for node in body.css(_UNSEEN):
        node.decompose()
    everything = len(body.text())
    for selector in _MAIN:
        found = body.css(selector)
        if len(found) == 1 and len(found[0].text()) >= everything * _MAIN_SHARE:
            return found[0]
    return body


class _Walk:
    """Goes through the tree in document order, without recursion: nesting has no limit in HTML."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._fresh_item = False

    def run(self, root: LexborNode) -> None:
        # A string on the stack is the end tag of the element whose children are above it.
        stack: list[LexborNode | str] = [root]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                self._close(node)
            elif node.is_text_node:
                self._pieces.append(node.text_content or "")
            elif node.is_element_node:
                self._enter(node, stack)
        self._flush()

    def _enter(self, node: LexborNode, stack: list[LexborNode | str]) -> None:
        tag = node.tag or ""
        if tag == "br":
            self._pieces.append(_LINE_BREAK)
        elif tag == "tr" and node.css_first(_LAYOUT) is None:
            self._flush()
            self._builder.add(BlockKind.TABLE_ROW, _row(node))
        else:
            if tag in _BLOCKS:
                self._flush()
                self._open.append(tag)
                self._fresh_item = self._fresh_item or tag == "li"
                stack.append(tag)
            stack.extend(reversed(list(node.iter(include_text=True))))

    def _close(self, tag: str) -> None:
        self._flush()
        self._open.pop()

    def _flush(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        if not text.strip():
            return
        innermost = self._open[-1] if self._open else ""
        if innermost == "pre":
            self._builder.add(BlockKind.CODE, text.replace(_LINE_BREAK, "\n"))
            return
        text = _collapsed(text)
        if innermost in _HEADINGS:
            self._builder.heading(_HEADINGS[innermost], text)
        elif "li" in self._open:
            bullet = "• " if self._fresh_item else ""
            self._builder.add(BlockKind.LIST_ITEM, bullet + text)
        else:
            self._builder.add(BlockKind.PARAGRAPH, text)
        self._fresh_item = False


def _row(node: LexborNode) -> str:
    cells = [
        _collapsed(cell.text(separator=" ")) for cell in node.iter() if cell.tag in ("td", "th")
    ]
    return " | ".join(cells) if any(cells) else ""


def _collapsed(text: str) -> str:
    return _BREAKS.sub("\n", _BLANKS.sub(" ", text)).strip()
