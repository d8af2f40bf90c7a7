"""Schemas of answers, and whether what a person said fits them."""

from collections.abc import Iterator
from typing import Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from meshwright_common.errors import FieldViolation, InvalidArgument
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.waiting import InterruptKind, Question

MAX_SCHEMA_BYTES: Final = 16 * 1024
"""Of a schema that a model wrote."""
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_VIOLATIONS: Final = 10
FIELD: Final = "payload"
"""Where an answer stands in ResumeTaskRequest."""

APPROVAL_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "comment": {"type": "string", "maxLength": 2000},
    },
    "required": ["approved"],
    "additionalProperties": False,
}
TEXT_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1}},
    "required": ["answer"],
    "additionalProperties": False,
}
_UNSAFE: Final = frozenset({"pattern", "patternProperties", "$ref", "$dynamicRef"})
"""A model may not have the platform match its regular expressions, or fetch what it refers to."""


def choice_schema(choices: list[str]) -> JsonObject:
    """Return the schema of an answer that is one of these."""
    return {
        "type": "object",
        "properties": {"choice": {"enum": choices}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def schema_of(question: Question) -> JsonObject | None:
    """Return what an answer to the question must fit. None: it may be any object."""
    if question.kind is InterruptKind.APPROVAL:
        return APPROVAL_SCHEMA
    return question.answer_schema


def fault_of_schema(schema: JsonObject) -> str:
    """Return why a schema that a model wrote is not taken; empty when it is."""
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        return f"must be at most {MAX_SCHEMA_BYTES} bytes as JSON"
    if schema.get("type") != "object":
        return 'must have "type": "object"'
    unsafe = sorted(_UNSAFE & set(_keys(schema)))
    if unsafe:
        return f"must not use {', '.join(unsafe)}"
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        return f"is no JSON Schema: {error.message[:200]}"
    return ""


def check(question: Question, answer: JsonObject) -> None:
    """Raise InvalidArgument naming each field of the answer that does not fit the question."""
    size = len(orjson.dumps(answer))
    if size > MAX_ANSWER_BYTES:
        text = f"must be at most {MAX_ANSWER_BYTES} bytes as JSON, has {size}"
        raise _unfit(FieldViolation(FIELD, text))
    schema = schema_of(question)
    if schema is None:
        return
    errors: Iterator[ValidationError] = Draft202012Validator(dict(schema)).iter_errors(answer)
    violations = [
        FieldViolation(".".join([FIELD, *map(str, error.absolute_path)]), error.message[:500])
        for _, error in zip(range(MAX_VIOLATIONS), errors, strict=False)
    ]
    if violations:
        raise _unfit(*violations)


def _unfit(*violations: FieldViolation) -> InvalidArgument:
    text = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return InvalidArgument(text, field_violations=violations)


def _keys(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as found:
                yield from found
                pending.extend(found.values())
            case list() as found:
                pending.extend(found)
            case _:
                pass
