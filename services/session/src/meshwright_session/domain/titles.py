"""Titles that sessions get by themselves."""

from typing import Final

TITLE_CHARACTERS: Final = 80


def title_of(text: str) -> str:
    """Return the beginning of what was said first, as one line; empty for nothing."""
    beginning = text[: TITLE_CHARACTERS * 8]
    shown = "".join(one if one.isprintable() else " " for one in beginning)
    line = " ".join(shown.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"
