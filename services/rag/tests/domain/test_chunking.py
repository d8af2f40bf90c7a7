"""Passages: size, pages, headings, overlap, offsets."""

import pytest

from meshwright_rag.domain.chunking import SLACK, Chunk, ChunkSizes, chunk
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.domain.text import estimate_tokens

SIZES = ChunkSizes(target=40, overlap=12, least=10)
SENTENCE = "This sentence is about ten tokens in all. "
CHINESE = "这是测试的句子。"


def build(*paragraphs: str, page: int | None = None) -> ParsedDocument:
    builder = DocumentBuilder(ParseLimits())
    for paragraph in paragraphs:
        builder.add(BlockKind.PARAGRAPH, paragraph, page=page)
    return builder.build()


def chunks(document: ParsedDocument, sizes: ChunkSizes = SIZES) -> list[Chunk]:
    return list(chunk(document, sizes))


@pytest.mark.parametrize("text", [SENTENCE * 30, CHINESE * 30, "x" * 3000, "词" * 900])
def test_no_passage_is_longer_than_the_target_with_slack(text: str) -> None:
    found = chunks(build(text))
    assert len(found) > 1
    assert all(one.tokens <= SIZES.target * SLACK for one in found)


@pytest.mark.parametrize("text", [SENTENCE * 30, CHINESE * 30, "x" * 3000, "a b " * 800])
def test_passages_point_into_the_text_and_leave_nothing_out(text: str) -> None:
    document = build(text, "The end.")
    covered = set[int]()
    for one in chunks(document):
        assert document.text[one.start : one.end] == one.text
        covered |= set(range(one.start, one.end))
    left_out = {document.text[at] for at in range(len(document.text)) if at not in covered}
    assert left_out <= {" ", "\n"}


def test_a_passage_begins_with_the_last_sentences_of_the_one_before() -> None:
    first, second, *_ = chunks(build(CHINESE * 12))
    assert second.start < first.end
    shared = first.text[second.start - first.start :]
    assert second.text.startswith(shared)
    assert estimate_tokens(shared) <= SIZES.overlap + 2


def test_a_passage_never_crosses_a_page() -> None:
    builder = DocumentBuilder(ParseLimits())
    builder.add(BlockKind.PARAGRAPH, SENTENCE * 2, page=1)
    builder.add(BlockKind.PARAGRAPH, "The answer is on page two.", page=2)
    found = chunks(builder.build())
    assert [one.page for one in found] == [1, 2]
    assert "answer" not in found[0].text


def test_a_heading_opens_a_passage_and_is_its_path() -> None:
    builder = DocumentBuilder(ParseLimits())
    builder.heading(1, "Setup")
    builder.add(BlockKind.PARAGRAPH, SENTENCE * 3)
    builder.heading(2, "Network")
    builder.add(BlockKind.PARAGRAPH, SENTENCE * 2)
    first, second = chunks(builder.build())
    assert (first.heading_path, second.heading_path) == (("Setup",), ("Setup", "Network"))
    assert second.text.startswith("Network")
    assert second.start >= first.end


def test_small_sections_share_a_passage_under_what_they_have_in_common() -> None:
    builder = DocumentBuilder(ParseLimits())
    builder.heading(1, "Glossary")
    for word in ("apt", "dpkg"):
        builder.heading(2, word)
        builder.add(BlockKind.PARAGRAPH, f"{word} is a tool.")
    (only,) = chunks(builder.build())
    assert only.heading_path == ("Glossary",)


def test_text_under_no_heading_stands_under_the_title() -> None:
    builder = DocumentBuilder(ParseLimits(), title="The Manual")
    builder.add(BlockKind.PARAGRAPH, SENTENCE)
    builder.heading(1, "Setup")
    builder.add(BlockKind.PARAGRAPH, SENTENCE * 3)
    assert [one.heading_path for one in chunks(builder.build())] == [("The Manual",), ("Setup",)]


def test_a_small_remainder_joins_the_passage_before() -> None:
    found = chunks(build(SENTENCE * 4 + "Tiny."))
    assert found[-1].text.endswith("Tiny.")
    assert found[-1].tokens > SIZES.least


def test_ordinals_count_through_the_document() -> None:
    found = chunks(build(SENTENCE * 30))
    assert [one.ordinal for one in found] == list(range(len(found)))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        ChunkSizes(target=10, overlap=10, least=5)
