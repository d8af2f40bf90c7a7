"""Building a parsed document."""

import pytest

from meshwright_rag.domain.errors import DocumentEmpty, DocumentLimit
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParseLimits


def test_blocks_point_into_the_text() -> None:
    builder = DocumentBuilder(ParseLimits())
    builder.heading(1, "Title")
    builder.add(BlockKind.LIST_ITEM, " one ")
    builder.add(BlockKind.LIST_ITEM, "two")
    builder.add(BlockKind.PARAGRAPH, "end")
    document = builder.build()
    assert document.text == "Title\n\none\ntwo\n\nend"
    assert [document.text[b.start : b.end] for b in document.blocks] == [
        "Title", "one", "two", "end",
    ]  # fmt: skip


def test_a_heading_ends_what_stands_at_its_level_and_below() -> None:
    builder = DocumentBuilder(ParseLimits())
    for level, title in ((1, "A"), (3, "A.x"), (2, "A.1"), (1, "B")):
        builder.heading(level, title)
    assert [block.heading_path for block in builder.build().blocks] == [
        ("A",), ("A", "A.x"), ("A", "A.1"), ("B",),
    ]  # fmt: skip


def test_a_document_without_text_is_empty() -> None:
    builder = DocumentBuilder(ParseLimits())
    builder.add(BlockKind.PARAGRAPH, " \n\t\u200b ")
    with pytest.raises(DocumentEmpty):
        builder.build()


def test_text_over_the_limit_is_refused() -> None:
    builder = DocumentBuilder(ParseLimits(max_text_characters=10))
    with pytest.raises(DocumentLimit) as error:
        builder.add(BlockKind.PARAGRAPH, "x" * 11)
    assert "10 characters" in error.value.metadata["limit"]
