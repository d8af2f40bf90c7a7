"""Memories by the words that they share with a question, for when their index cannot be asked."""

from collections.abc import Sequence
from functools import cache
from typing import Final

from meshwright_common.text.terms import terms
from meshwright_session.domain.memory_models import Memory, RecalledMemory

_SAYS_NOTHING: Final = """
a an and are as at be but by can did do does for from had has have how i if in is it its me my of on
or our so than that the their them then there they this to us was we were what when where which who
why will with would you your
"""
_SAYS_NOTHING_IN_CHINESE: Final = frozenset("的了是我你他她它在有和也吗呢")


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text that say something, in the form in which words are compared."""
    found = frozenset(term for _, term in terms(text))
    return found - _stop_words() - _SAYS_NOTHING_IN_CHINESE


def sharing_words(query: str, memories: Sequence[Memory]) -> list[RecalledMemory]:
    """Return those that share words with the question; `score` is the share of its words."""
    wanted = words_of(query)
    found = []
    for memory in memories:
        shared = wanted & words_of(memory.text)
        if shared:
            found.append(RecalledMemory(memory, len(shared) / len(wanted)))
    return found


@cache
def _stop_words() -> frozenset[str]:
    return frozenset(term for _, term in terms(_SAYS_NOTHING))
