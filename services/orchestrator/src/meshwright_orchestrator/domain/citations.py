"""Numbers of sources: given to passages, kept apart between searches, found again in an answer."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from meshwright_orchestrator.domain.journal import ToolResult
from meshwright_orchestrator.domain.models import Citation

_MARKS: Final = re.compile(r"\[(\d{1,4}(?:\s*[,;，、]\s*\d{1,4})*)\]")
_NUMBER: Final = re.compile(r"\d+")


def cited(answer: str, sources: Sequence[Citation]) -> tuple[Citation, ...]:
    """Return the sources that `answer` refers to as [n] or [n, m], by their numbers."""
    numbers = {int(number) for marks in _MARKS.findall(answer) for number in _NUMBER.findall(marks)}
    return tuple(source for source in sources if source.number in numbers)


def numbered_on(
    sources: Sequence[Citation], found: Sequence[Citation]
) -> tuple[tuple[Citation, ...], Mapping[str, int]]:
    """Add what a tool found to the sources, numbered on; a known chunk keeps its number.

    Returns all sources, and the number of each found chunk.
    """
    known = {source.chunk_id: source.number for source in sources}
    merged = list(sources)
    for citation in found:
        if citation.chunk_id not in known:
            known[citation.chunk_id] = len(merged) + 1
            merged.append(replace(citation, number=len(merged) + 1))
    return tuple(merged), {citation.chunk_id: known[citation.chunk_id] for citation in found}


def with_numbers(text: str, numbers: Mapping[int, int]) -> str:
    """Return `text` with its [n] changed by `numbers`; those that are not in it stay."""

    def renumbered(marks: re.Match[str]) -> str:
        return _NUMBER.sub(
            lambda number: str(numbers.get(int(number[0]), int(number[0]))), marks[0]
        )

    return _MARKS.sub(renumbered, text)


def for_model(result: ToolResult, numbers: Mapping[str, int]) -> str:
    """Return the result's JSON as the model gets it: its sources carry the task's numbers.

    A result without sources is unchanged. From a cut one only the whole sources are left.
    """
    if not numbers:
        return result.result_json
    if result.truncated:
        return _from_sources(result, numbers)
    return json.dumps(_renumbered(json.loads(result.result_json), numbers), ensure_ascii=False)


def _renumbered(value: object, numbers: Mapping[str, int]) -> object:
    if isinstance(value, list):
        return [_renumbered(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    copied = {key: _renumbered(item, numbers) for key, item in value.items()}
    chunk_id = copied.get("chunk_id")
    if "number" in copied and isinstance(chunk_id, str) and chunk_id in numbers:
        copied["number"] = numbers[chunk_id]
    return copied


def _from_sources(result: ToolResult, numbers: Mapping[str, int]) -> str:
    room = len(result.result_json)
    passages: list[dict[str, object]] = []
    for citation in result.citations:
        passage: dict[str, object] = {
            "number": numbers[citation.chunk_id],
            "document_name": citation.document_name,
            "page": citation.page,
            "quote": citation.quote,
        }
        room -= len(json.dumps(passage, ensure_ascii=False))
        if passages and room < 0:
            break
        passages.append(passage)
    return json.dumps({"passages": passages, "truncated": True}, ensure_ascii=False)
