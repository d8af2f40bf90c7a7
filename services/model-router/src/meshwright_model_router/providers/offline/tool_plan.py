"""Which tools the offline model calls for a question, and with what."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from meshwright_model_router.domain.conversation import (
    JsonObject,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.providers.offline.arithmetic import find_calculation
from meshwright_model_router.providers.offline.conversation import Conversation
from meshwright_model_router.providers.offline.schema_values import object_for, text_property
from meshwright_model_router.providers.offline.smalltalk import is_smalltalk
from meshwright_model_router.providers.offline.zones import asks_for_time, find_zone
from meshwright_model_router.providers.words.analysis import stem, terms, words

CALCULATOR: Final = "calculator"
CURRENT_TIME: Final = "current_time"
HTTP_GET: Final = "http_get"
KNOWLEDGE_SEARCH: Final = "knowledge_search"
DELEGATE: Final = "delegate"
"""Hands a supervisor's work to another agent; asked for by its name, as any tool of others."""

MAX_CALLS: Final = 4
"""Calls for one question; a model in a loop helps nobody."""

_KNOWN: Final = frozenset({CALCULATOR, CURRENT_TIME, HTTP_GET, KNOWLEDGE_SEARCH})
_URL: Final = re.compile(r"https?://[^\s<>\"'）)】」，。；、]+", re.IGNORECASE)
_HOST: Final = re.compile(
    r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/[^\s<>\"'）)】」，。；、]*)?", re.IGNORECASE
)
_FETCH: Final = re.compile(
    r"\b(?:fetch|get|open|read|load|download|visit|show|check|look at|go to|retrieve|curl"
    r"|summari[sz]e|what(?:'s| is| does))\b|抓取|打开|获取|访问|读取|看看|看一下|下载|总结|内容",
    re.IGNORECASE,
)
_FETCH_HOST: Final = re.compile(r"\b(?:fetch|visit|curl|http_get)\b|抓取|访问", re.IGNORECASE)
_GENERIC: Final = {
    "get", "find", "list", "tool", "call", "fetch", "make", "do", "run", "set", "use", "new",
    "create", "send", "add", "check", "search", "look", "lookup", "query", "data", "info",
    "information", "api", "function", "value", "item", "current",
}  # fmt: skip
"""Words of tool names that say nothing about what the tool is about."""


@dataclass(frozen=True, slots=True)
class _Wish:
    tool: ToolDefinition
    arguments: JsonObject

    def arguments_json(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)


def plan(conversation: Conversation) -> list[ToolCall]:
    """Return the calls to ask for now; empty when it is time to answer.

    A call is asked for once: what has an answer since the question is not repeated.
    """
    prompt = conversation.prompt
    if not prompt.tools or prompt.tool_choice is ToolChoice.NONE:
        return []
    done = {(result.call.name, result.call.arguments_json) for result in conversation.results}
    wishes = list(_wishes(conversation))
    if prompt.tool_choice is ToolChoice.REQUIRED and not done:
        wishes = _required(conversation, wishes)
    wanted = [wish for wish in wishes if (wish.tool.name, wish.arguments_json()) not in done]
    wanted = wanted[: max(0, MAX_CALLS - len(done))]
    if prompt.options.parallel_tool_calls is False:
        wanted = wanted[:1]
    return [_call(conversation, number, wish) for number, wish in enumerate(wanted)]


def _wishes(conversation: Conversation) -> Iterator[_Wish]:
    question = conversation.question
    tools = {tool.name: tool for tool in conversation.prompt.tools}
    found = False
    if (tool := tools.get(CALCULATOR)) and (calculation := find_calculation(question)):
        found = True
        yield _Wish(tool, {text_property(tool.parameters, "expression"): calculation.expression})
    if (tool := tools.get(CURRENT_TIME)) and asks_for_time(question):
        found = True
        zone = find_zone(question)
        yield _Wish(tool, {text_property(tool.parameters, "zone"): zone} if zone else {})
    if (tool := tools.get(HTTP_GET)) and (url := wanted_url(question)):
        found = True
        yield _Wish(tool, {text_property(tool.parameters, "url"): url})
    if not found and (other := _by_name(conversation)):
        found = True
        yield _Wish(other, object_for(other.parameters, question))
    if found or conversation.passages is not None or is_smalltalk(question):
        # Also when a search has answered: its passages are there then.
        return
    if (tool := tools.get(KNOWLEDGE_SEARCH)) and terms(question):
        yield _Wish(tool, {text_property(tool.parameters, "query"): question[:4000]})


def wanted_url(question: str) -> str:
    """Return the address that a question wants to be fetched; "": none."""
    if found := _URL.search(question):
        rest = question.replace(found[0], "")
        if _FETCH.search(rest) or not any(sign.isalnum() for sign in rest):
            return found[0].rstrip(".,;:!?")
    elif _FETCH_HOST.search(question) and (found := _HOST.search(question)):
        return "https://" + found[0].rstrip(".,;:!?")
    return ""


def beside_the_fetching(question: str) -> str:
    """Return what a question asks beside fetching an address."""
    return _FETCH.sub(" ", _URL.sub(" ", question))


def _by_name(conversation: Conversation) -> ToolDefinition | None:
    """Return the tool of somebody else that shares a telling word of its name with the question."""
    asked = set(terms(conversation.question))
    best, best_score = None, 0
    for tool in conversation.prompt.tools:
        if tool.name in _KNOWN:
            continue
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_.\-]+", " ", tool.name)
        name = {stem(word.text) for word in words(spaced) if word.text not in _GENERIC}
        shared = name & asked
        score = 10 * len(shared) + len(asked & set(terms(tool.description))) if shared else 0
        if score > best_score:
            best, best_score = tool, score
    return best


def _required(conversation: Conversation, wishes: list[_Wish]) -> list[_Wish]:
    """Return wishes for the tool that has to be called, whatever the question is."""
    prompt, question = conversation.prompt, conversation.question
    named = prompt.tool_choice_name
    fitting = [wish for wish in wishes if named in {"", wish.tool.name}]
    if fitting:
        return fitting
    tools = {tool.name: tool for tool in prompt.tools}
    harmless = (named, KNOWLEDGE_SEARCH, CURRENT_TIME)
    tool = next((tools[name] for name in harmless if name in tools), prompt.tools[0])
    return [_Wish(tool, object_for(tool.parameters, question))]


def _call(conversation: Conversation, number: int, wish: _Wish) -> ToolCall:
    arguments = wish.arguments_json()
    # The same conversation gives the same id, a longer one another.
    place = f"{len(conversation.prompt.messages)}:{number}:{wish.tool.name}:{arguments}"
    digest = blake2b(place.encode("utf-8", "replace"), digest_size=12).hexdigest()
    return ToolCall(f"call_{digest}", wish.tool.name, arguments)
