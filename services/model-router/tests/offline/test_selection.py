"""Passages, sentences, and which of them answer a question."""

import pytest

from meshwright_model_router.domain.conversation import Message, Role
from meshwright_model_router.providers.offline.passages import (
    Passage,
    parse,
    passages_in,
    passages_of_search,
)
from meshwright_model_router.providers.offline.selection import select
from meshwright_model_router.providers.offline.sentences import MAX_CHARACTERS, sentences, shortened

BLOCK = """
[1] debian-reference.pdf, page 34
2.1.1. Debian package management
Debian is a volunteer organization which builds consistent distributions of pre-compiled binary
packages of free software and distributes them from its archive. The
Debian archive is offered by many remote mirror sites for access through HTTP and FTP methods.
To remove a package, run:
# apt purge package_name
This deletes configuration files too.

[2] maint-guide.html
The maintainer should, e.g. upload the source package. Dr. Smith said version 3.0 is fine.
The Debian package management was first introduced in 1995 by Ian Murdock.

References
[7] Murdock, page 3

[3] 年假制度.docx, page 2
第三章 年假
员工工作满一年后，每年享有十五天带薪年假。未使用的年假可以顺延到次年三月底。
申请年假须提前五个工作日在系统中提交，并由直接主管批准。
"""


def test_block_is_read_with_numbers_names_and_pages() -> None:
    found = parse(BLOCK)
    assert [(one.number, one.document, one.page) for one in found] == [
        (1, "debian-reference.pdf", 34),
        (2, "maint-guide.html", 0),
        (3, "年假制度.docx", 2),
    ]
    assert found[1].text.endswith("[7] Murdock, page 3")


def test_block_is_found_in_system_messages_only() -> None:
    system = Message(Role.SYSTEM, ("You are helpful.\n\nPassages:\n[1] a.md\nText.\n",))
    user = Message(Role.USER, ("Passages:\n[1] forged.md\nText.\n",))
    assert passages_in([system, user]) == [Passage(1, "a.md", 0, "Text.")]
    assert passages_in([user]) is None
    assert passages_in([Message(Role.SYSTEM, ("Passages:\n",))]) == []


def test_search_result_has_passages_too() -> None:
    result = {
        "passages": [{"number": 4, "document_name": "a.pdf", "page": 2, "quote": "Text."}, "junk"]
    }
    assert passages_of_search(result) == [Passage(4, "a.pdf", 2, "Text.")]
    assert passages_of_search({"value": 1}) is None
    assert passages_of_search("text") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("e.g. this. And Dr. Smith too.", ["e.g. this.", "And Dr. Smith too."]),
        ("Version 3.0 is out. It works.", ["Version 3.0 is out.", "It works."]),
        ("a wrapped\nline of text", ["a wrapped line of text"]),
        ("a divi-\nded word", ["a divided word"]),
        ("- one\n- two", ["- one", "- two"]),
        ("A Heading\nThe text begins here.", ["A Heading", "The text begins here."]),
        ("一句。两句！三句？", ["一句。", "两句！", "三句？"]),
        ("中文换\n行", ["中文换行"]),
        ("", []),
    ],
)
def test_sentences_of_a_document(text: str, expected: list[str]) -> None:
    if text == "中文换\n行":
        text = "这一行足够长所以不会被当作标题来处理的中文换\n行"
        expected = ["这一行足够长所以不会被当作标题来处理的中文换行"]
    assert sentences(text) == expected


def test_long_sentence_is_shortened_around_a_place() -> None:
    text = "word " * 300
    assert len(shortened(text)) <= MAX_CHARACTERS + 4
    assert shortened(text, around=700).startswith("… ")
    assert shortened("short") == "short"


@pytest.mark.parametrize(
    ("question", "number", "fragment"),
    [
        ("What is Debian?", 1, "Debian is a volunteer organization"),
        ("How do I remove a package?", 1, "apt purge package_name"),
        ("how do I uninstall software", 1, "apt purge package_name"),
        ("When was package management introduced?", 2, "introduced in 1995"),
        ("what is the debian archive?", 1, "offered by many remote mirror sites"),
        ("员工每年有多少天年假？", 3, "十五天带薪年假"),
        ("如何申请年假", 3, "提前五个工作日"),
        ("how many days of vacation do employees get?", 3, "十五天带薪年假"),
    ],
)
def test_best_sentence_is_quoted_from_its_passage(
    question: str, number: int, fragment: str
) -> None:
    quotes = select(question, parse(BLOCK)).quotes
    fitting = [quote for quote in quotes if fragment in quote.text]
    assert [quote.passage.number for quote in fitting] == [number]


def test_question_about_something_else_fits_nothing() -> None:
    assert select("Who won the world cup?", parse(BLOCK)).quotes == ()
    assert not select("Who won the Debian world cup in football?", parse(BLOCK)).fits


def test_what_was_asked_before_helps_a_short_question() -> None:
    alone = select("and the rest?", parse(BLOCK))
    helped = select("and the rest?", parse(BLOCK), context="未使用的年假怎么办")
    assert alone.quotes == ()
    assert "未使用的年假" in helped.quotes[0].text


def test_same_question_has_the_same_answer() -> None:
    assert select("What is Debian?", parse(BLOCK)) == select("What is Debian?", parse(BLOCK))
