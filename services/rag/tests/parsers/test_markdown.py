"""Markdown without its markup."""

from pathlib import Path

from meshwright_rag.domain.parsed import BlockKind, ParsedDocument, ParseLimits
from meshwright_rag.parsers.markdown import parse_markdown

SOURCE = """---
title: "Release notes"
---
# Version 2 `beta`

A *soft*
break and a [link](http://x).

1. one
2. two

   more of two
   * inner

| name | value |
|------|-------|
| 端口 | 8080 |

```sh
  apt install x
```
<div>raw <b>html</b><script>x()</script></div>
"""


def parse(tmp_path: Path, source: str) -> ParsedDocument:
    path = tmp_path / "file.md"
    path.write_text(source)
    return parse_markdown(path, ParseLimits())


def test_structure_is_kept_and_markup_is_not(tmp_path: Path) -> None:
    document = parse(tmp_path, SOURCE)
    assert [(b.kind, document.text[b.start : b.end]) for b in document.blocks] == [
        (BlockKind.HEADING, "Version 2 beta"),
        (BlockKind.PARAGRAPH, "A soft break and a link."),
        (BlockKind.LIST_ITEM, "1. one"),
        (BlockKind.LIST_ITEM, "2. two"),
        (BlockKind.LIST_ITEM, "more of two"),
        (BlockKind.LIST_ITEM, "• inner"),
        (BlockKind.TABLE_ROW, "name | value"),
        (BlockKind.TABLE_ROW, "端口 | 8080"),
        (BlockKind.CODE, "  apt install x"),
        (BlockKind.PARAGRAPH, "raw html"),
    ]
    assert document.title == "Release notes"


def test_setext_headings_nest(tmp_path: Path) -> None:
    document = parse(tmp_path, "Top\n===\n\nSub\n---\n\ntext\n")
    assert document.blocks[-1].heading_path == ("Top", "Sub")
