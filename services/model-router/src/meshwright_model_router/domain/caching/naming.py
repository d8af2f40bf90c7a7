"""What two calls must have in common for one to get the other's answer.

Everything that decides what a model answers, or who may see it: the caller's rights, the routing
and the guards in force, the model, the whole prompt. Prices are not among it. The content that is
returned here is named by a digest with the tenant's key, so that names tell nothing.
"""

import hashlib
import json
import re
from dataclasses import replace
from typing import Final

from meshwright_common.context import Principal
from meshwright_model_router.domain.call import CacheUse, ModelCall
from meshwright_model_router.domain.conversation import Image, Message, Prompt, Role

MOST_QUESTION_CHARACTERS: Final = 4_000
"""Longer messages mean too much for one vector."""

_NUMBERS: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NEGATIONS: Final = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot)\b|n['\u2019]t\b|[不没無无非未别勿莫]",
    re.IGNORECASE,
)


def request_content(call: ModelCall, use: CacheUse, caller: Principal, standing: str) -> bytes:
    """Return what names the answer to exactly this call. `standing`: see `Admission`."""
    return _content("request", call, use, caller, standing, call.prompt)


def question_of(call: ModelCall) -> str:
    """Return the text whose meaning may decide; "" when only the very same call will do."""
    prompt = call.prompt
    if prompt.tools or any(message.images for message in prompt.messages):
        return ""
    last = prompt.messages[-1]
    if last.role is not Role.USER or len(last.text) > MOST_QUESTION_CHARACTERS:
        return ""
    return last.text.strip()


def scope_content(call: ModelCall, use: CacheUse, caller: Principal, standing: str) -> bytes:
    """Return what names the questions that may stand for each other.

    All of the call but its last text, and of that the numbers and the negations: vectors of texts
    that differ in these alone lie close together.
    """
    text = question_of(call)
    numbers = " ".join(sorted(_NUMBERS.findall(text)))
    negations = len(_NEGATIONS.findall(text))
    rest = replace(call.prompt.messages[-1], parts=(f"{numbers}|{negations}",))
    prompt = replace(call.prompt, messages=(*call.prompt.messages[:-1], rest))
    return _content("scope", call, use, caller, standing, prompt)


def _content(
    purpose: str, call: ModelCall, use: CacheUse, caller: Principal, standing: str, prompt: Prompt
) -> bytes:
    rights = [caller.kind, sorted(caller.permissions), sorted(caller.roles)]
    whose = caller.subject if use.private else ""
    guards = call.guards.version if call.guards else ""
    return json.dumps(
        [1, purpose, rights, whose, standing, guards, call.model, _prompt(prompt)],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    ).encode("utf-8", "surrogatepass")


def _prompt(prompt: Prompt) -> list[object]:
    options = prompt.options
    return [
        [_message(message) for message in prompt.messages],
        [[tool.name, tool.description, tool.parameters] for tool in prompt.tools],
        prompt.tool_choice.value,
        prompt.tool_choice_name,
        [getattr(options, name) for name in options.__slots__],
        prompt.output_format.value,
        prompt.output_schema,
    ]


def _message(message: Message) -> list[object]:
    return [
        message.role.value,
        [one if isinstance(one, str) else _image(one) for one in message.parts],
        [[call.id, call.name, call.arguments_json] for call in message.tool_calls],
        message.tool_call_id,
        message.name,
    ]


def _image(image: Image) -> list[str]:
    return [image.url, image.media_type, hashlib.sha256(image.data).hexdigest()]
