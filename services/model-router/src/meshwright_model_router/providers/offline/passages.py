"""The numbered passages that an answer may quote, as they stand in a prompt or a tool's result.

Passages:
[1] debian-reference.en.pdf, page 34
The text of the passage, over any number of lines.

[2] notes.md
…
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_model_router.domain.conversation import Message, Role

_START: Final = re.compile(r"^Passages:[ \t]*$", re.MULTILINE)
_NOTHING: Final = re.compile(r"^No passage of the user's documents fits\b", re.MULTILINE)
"""What stands in a prompt in place of the block when a search found nothing."""
_HEADER: Final = re.compile(r"^\[(\d{1,4})\] (.+?)(?:, page (\d+))?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage; `page` 0: the document has no pages."""

    number: int
    document: str
    page: int
    text: str


def passages_in(messages: Iterable[Message]) -> list[Passage] | None:
    """Return the passages of the last block in system messages; None: nothing was searched."""
    found: list[Passage] | None = None
    for message in messages:
        if message.role is not Role.SYSTEM:
            continue
        if start := _START.search(message.text):
            found = parse(message.text[start.end() :])
        elif _NOTHING.search(message.text):
            found = []
    return found


def parse(block: str) -> list[Passage]:
    """Return the passages of a block, without its first line.

    Numbers rise by one. A line that looks like a header and has another number is a passage's own
    text, such as its list of references.
    """
    headers: list[re.Match[str]] = []
    for header in _HEADER.finditer(block):
        expected = int(headers[-1][1]) + 1 if headers else int(header[1])
        if int(header[1]) == expected:
            headers.append(header)
    if not headers:
        return []
    ends = [header.start() for header in headers[1:]] + [len(block)]
    return [
        Passage(int(header[1]), header[2], int(header[3] or 0), block[header.end() : end].strip())
        for header, end in zip(headers, ends, strict=True)
    ]


def passages_of_search(result: object) -> list[Passage] | None:
    """Return the passages of a search tool's result; None when it is no such result."""
    if not isinstance(result, Mapping) or not isinstance(result.get("passages"), Sequence):
        return None
    return [
        Passage(
            number=_integer(item.get("number"), number),
            document=str(item.get("document_name") or ""),
            page=_integer(item.get("page"), 0),
            text=str(item.get("quote") or ""),
        )
        for number, item in enumerate(result["passages"], start=1)
        if isinstance(item, Mapping)
    ]


def _integer(value: object, default: int) -> int:
    return int(value) if isinstance(value, (int, float)) else default
