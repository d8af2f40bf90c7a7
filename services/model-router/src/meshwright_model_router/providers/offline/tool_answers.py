"""What tools returned, as sentences."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import unescape
from typing import Final

from meshwright_model_router.providers.offline.arithmetic import find_calculation
from meshwright_model_router.providers.offline.conversation import Conversation, ToolResult
from meshwright_model_router.providers.offline.passages import Passage, passages_of_search
from meshwright_model_router.providers.offline.selection import select
from meshwright_model_router.providers.offline.tool_plan import (
    CALCULATOR,
    CURRENT_TIME,
    DELEGATE,
    HTTP_GET,
    beside_the_fetching,
)

MAX_SHOWN_CHARACTERS: Final = 600
_MAX_ITEMS: Final = 10
_MAX_DEPTH: Final = 3

_DROPPED: Final = re.compile(
    r"<(script|style|head|noscript|template)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL
)
_BREAK: Final = re.compile(
    r"<(?:/?(?:p|div|li|tr|h[1-6]|ul|ol|table|section)|br)\b[^>]*>", re.IGNORECASE
)
_TAG: Final = re.compile(r"<[a-z/!][^>]*>", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title\s*>", re.IGNORECASE | re.DOTALL)
_WEEKDAYS: Final = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")


def answer_from_results(conversation: Conversation) -> str:
    """Return what the tools said as text; "" when all of it was passages, which are quoted."""
    parts = [
        _sentence(conversation, result)
        for result in conversation.results
        if passages_of_search(result.content) is None
    ]
    return "\n\n".join(parts)


def _sentence(conversation: Conversation, result: ToolResult) -> str:
    content, chinese = result.content, conversation.chinese
    if (problem := _problem(content)) is not None:
        name = result.call.name
        return f"工具 {name} 失败：{problem}" if chinese else f"The tool {name} failed: {problem}"
    if isinstance(content, Mapping):
        if result.call.name == CALCULATOR and "value" in content:
            return _calculated(conversation, content)
        if result.call.name == CURRENT_TIME and "time" in content:
            return _time(content, chinese=chinese)
        if result.call.name == HTTP_GET and "text" in content:
            return _page(conversation, content)
        if result.call.name == DELEGATE and "answer" in content:
            return str(content["answer"])
    said = readable(content)
    return f"{result.call.name} 返回：{said}" if chinese else f"{result.call.name} says: {said}"


def _problem(content: object) -> str | None:
    if not isinstance(content, Mapping):
        return None
    error = content.get("error")
    if not error:
        return None
    if isinstance(error, Mapping):
        return str(error.get("message") or readable(error))
    return str(error)


def _calculated(conversation: Conversation, content: Mapping[str, object]) -> str:
    expression, value = str(content.get("expression") or ""), str(content["value"])
    calculation = find_calculation(conversation.question)
    spoken = expression
    if calculation is not None and calculation.expression == expression:
        spoken = calculation.spoken
    if conversation.chinese:
        return f"{spoken} 等于 {value}。"
    return f"{spoken} = {value}" if _is_formula(spoken) else f"{spoken} is {value}."


def _is_formula(text: str) -> bool:
    return not re.search(r"[a-z]{2,}\s", text, re.IGNORECASE)


def _time(content: Mapping[str, object], *, chinese: bool) -> str:
    zone = str(content.get("zone") or "UTC")
    try:
        moment = datetime.fromisoformat(str(content["time"]))
    except ValueError:
        return readable(content)
    offset = f"UTC{moment:%z}"[:6] + ":" + f"{moment:%z}"[3:5]
    if chinese:
        weekday = _WEEKDAYS[moment.weekday()]
        return f"{zone} 现在是 {moment:%Y年%m月%d日} {weekday} {moment:%H:%M:%S}（{offset}）。"
    day = f"{moment:%A}, {moment.day} {moment:%B %Y}"
    return f"In {zone} it is {moment:%H:%M:%S} on {day} ({offset})."


def _page(conversation: Conversation, content: Mapping[str, object]) -> str:
    url, status = str(content.get("url") or ""), content.get("status")
    raw = str(content["text"])
    title = _TITLE.search(raw)
    text = _plain(raw) if "html" in str(content.get("media_type")) or _TAG.search(raw) else raw
    heading = f" - {' '.join(unescape(title[1]).split())}" if title and title[1].strip() else ""
    chosen = select(beside_the_fetching(conversation.question), [Passage(1, url, 0, text)])
    if chosen.fits:
        shown = " ".join(quote.text for quote in chosen.quotes)
    else:
        shown = " ".join(text.split())[:MAX_SHOWN_CHARACTERS]
        shown += " …" if len(text) > MAX_SHOWN_CHARACTERS else ""
    if not shown:
        shown = "（没有文字）" if conversation.chinese else "(no text)"
    if conversation.chinese:
        return f"{url} 返回状态 {status}{heading}：\n\n{shown}"
    return f"{url} answered with status {status}{heading}:\n\n{shown}"


def _plain(markup: str) -> str:
    text = _DROPPED.sub(" ", markup)
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return "\n".join(" ".join(line.split()) for line in unescape(text).splitlines() if line.strip())


def readable(value: object, depth: int = 0) -> str:
    """Return a JSON value as people write it, shortened."""
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        items = list(value.items())[:_MAX_ITEMS]
        text = ", ".join(f"{_label(key)}: {readable(item, depth + 1)}" for key, item in items)
    elif isinstance(value, Sequence) and not isinstance(value, str) and depth < _MAX_DEPTH:
        text = ", ".join(readable(item, depth + 1) for item in value[:_MAX_ITEMS])
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif value is None:
        text = "nothing"
    else:
        text = str(value)
    if len(text) > MAX_SHOWN_CHARACTERS:
        return text[:MAX_SHOWN_CHARACTERS] + " …"
    return text


def _label(key: object) -> str:
    return str(key).replace("_", " ")
