"""Terms of indexes and of queries."""

from meshwright_rag.adapters.jieba_terms import query_terms, quoted, tsvector


def test_a_query_looks_for_what_carries_meaning() -> None:
    assert query_terms("How do I reset the password?").single == ("reset", "password")
    assert query_terms("忘记密码怎么办？").single == ("忘记", "密码")


def test_a_query_of_common_words_looks_for_them() -> None:
    assert query_terms("who is who").single == ("who", "is")


def test_a_query_knows_which_words_stand_together() -> None:
    assert query_terms("reset the root password").pairs == (
        ("reset", 2, "root"), ("root", 1, "password"),
    )  # fmt: skip


def test_an_indexed_passage_holds_positions_of_its_words_and_weights_of_headings() -> None:
    literal, count = tsvector("The setup of setup", ("Setup",))
    assert (literal, count) == ("'setup':16383A,2,4 'the':1 'of':3", 4)


def test_no_term_can_leave_its_quotes() -> None:
    assert quoted("a'b\\c") == "'a''b\\\\c'"
