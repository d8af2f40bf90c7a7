"""Normal form, sizes and sentences."""

import pytest

from meshwright_rag.domain.text import estimate_tokens, normalise, sentence_spans


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x07c\ufeff", "abc"),
        ("hid\u200bden\u202e\u00ad", "hidden"),
        ("  two   blanks\t here \n\n\n\n\nend  ", "two blanks here\n\nend"),
        ("e\u0301", "é"),
    ],
)
def test_stored_text_has_one_form(given: str, expected: str) -> None:
    assert normalise(given) == expected


def test_program_text_keeps_its_indentation() -> None:
    assert normalise("\n  if x:\n      y  \n", keep_blanks=True) == "  if x:\n      y"


def test_a_chinese_character_counts_like_four_latin_ones() -> None:
    assert estimate_tokens("网络") == 2
    assert estimate_tokens("a" * 8) == 2
    assert estimate_tokens("网络 abcdefg") == 4


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ("第一句。第二句！“第三句。”第四", ["第一句。", "第二句！", "“第三句。”", "第四"]),
        ("Version 2.1 of apt.conf is here. Next", ["Version 2.1 of apt.conf is here. ", "Next"]),
        ("line\nline", ["line\n", "line"]),
    ],
)
def test_sentences_leave_no_gap(text: str, sentences: list[str]) -> None:
    spans = sentence_spans(text, 0, len(text))
    assert [text[start:end] for start, end in spans] == sentences
