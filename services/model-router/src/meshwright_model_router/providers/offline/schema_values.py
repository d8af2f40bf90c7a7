"""Values that fit a JSON Schema, made of what a question mentions."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from meshwright_model_router.domain.conversation import JsonObject, JsonValue

_MAX_DEPTH: Final = 6
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_NAMED: Final = re.compile(
    r"\b(?:in|for|of|at|from|to|about|near|with|on)\s+"
    r"((?:[A-Z][\w'-]*|[\d.]+)(?:\s+(?:[A-Z][\w'-]*|[\d.]+))*)"
)
_QUOTED: Final = re.compile(
    r"[\"\u201c\u2018\u300c\u300a]([^\"\u201d\u2019\u300d\u300b]{1,200})[\"\u201d\u2019\u300d\u300b]"
)
_WIDE_PLACE: Final = re.compile(r"([\u4e00-\u9fff]{2,8}?)(?:的|今天|明天|现在|天气)")
_FREE_TEXT: Final = re.compile(
    r"query|question|text|prompt|message|content|input|search|keywords?|topic", re.IGNORECASE
)


def object_for(schema: JsonObject, question: str) -> dict[str, JsonValue]:
    """Return an object with the required properties of `schema`, and those with an obvious value.

    Strings are what the question names or quotes, else the whole question; numbers are taken in
    their order; enumerations take the member that the question mentions, else their first.
    """
    value = _value(schema, question, "", 0)
    return dict(value) if isinstance(value, Mapping) else {}


def text_property(schema: JsonObject, preferred: str) -> str:
    """Return the name of the property for the main text: `preferred`, else the first string."""
    properties = _properties(schema)
    if preferred in properties or not properties:
        return preferred
    texts = [name for name, one in properties.items() if _type_of(one) == "string"]
    return texts[0] if texts else preferred


def value_for(schema: JsonObject, question: str, answer: str) -> JsonValue:
    """Return a value that fits `schema`; its first free string is `answer`, if there is one."""
    value = _value(schema, question, "", 0)
    if not answer:
        return value
    if not isinstance(value, Mapping):
        return answer if _type_of(schema) == "string" else value
    filled = dict(value)
    for name, one in _properties(schema).items():
        if _type_of(one) == "string" and "enum" not in one and "const" not in one:
            filled[name] = answer
            break
    return filled


def _value(schema: JsonObject, question: str, name: str, depth: int) -> JsonValue:
    if "const" in schema:
        return schema["const"]
    if members := _members(schema):
        return _mentioned(members, question)
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        if isinstance(options, Sequence) and options and isinstance(options[0], Mapping):
            return _value(options[0], question, name, depth + 1)
    return _of_type(schema, question, name, depth)


def _of_type(schema: JsonObject, question: str, name: str, depth: int) -> JsonValue:
    value: JsonValue = None
    match _type_of(schema):
        case "string":
            value = _text(question, name)
        case "number" | "integer" as kind:
            value = _number(schema, question, whole=kind == "integer")
        case "boolean":
            value = False
        case "array":
            value = _array(schema, question, name, depth)
        case "object" if depth < _MAX_DEPTH:
            value = {
                key: _value(one, question, key, depth + 1)
                for key, one in _properties(schema).items()
                if key in _required(schema) or _mentions(_members(one), question)
            }
    return value


def _array(schema: JsonObject, question: str, name: str, depth: int) -> JsonValue:
    items, least = schema.get("items"), schema.get("minItems")
    wanted = int(least) if isinstance(least, int) else 0
    if not isinstance(items, Mapping) or depth >= _MAX_DEPTH:
        return []
    return [_value(items, question, name, depth + 1) for _ in range(min(wanted, 8))]


def _text(question: str, name: str) -> str:
    if not _FREE_TEXT.search(name):
        for pattern in (_QUOTED, _NAMED, _WIDE_PLACE):
            if found := pattern.search(question):
                return found[1].strip(" .,?!")
    return question.strip()


def _number(schema: JsonObject, question: str, *, whole: bool) -> int | float:
    found = _NUMBER.search(question)
    value = float(found[0].replace(",", "")) if found else 0.0
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, (int, float)):
        value = max(value, least)
    if isinstance(most, (int, float)):
        value = min(value, most)
    return int(value) if whole or value.is_integer() else value


def _mentioned(members: Sequence[JsonValue], question: str) -> JsonValue:
    folded = question.casefold()
    for member in members:
        if isinstance(member, str) and member.casefold() in folded:
            return member
    return members[0]


def _mentions(members: Sequence[JsonValue], question: str) -> bool:
    folded = question.casefold()
    return any(isinstance(member, str) and member.casefold() in folded for member in members)


def _members(schema: JsonObject) -> Sequence[JsonValue]:
    members = schema.get("enum")
    return members if isinstance(members, Sequence) and not isinstance(members, str) else ()


def _properties(schema: JsonObject) -> Mapping[str, JsonObject]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {name: one for name, one in properties.items() if isinstance(one, Mapping)}


def _required(schema: JsonObject) -> Sequence[JsonValue]:
    required = schema.get("required")
    return required if isinstance(required, Sequence) and not isinstance(required, str) else ()


def _type_of(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "string"
