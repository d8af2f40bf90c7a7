"""Checking arguments by a schema that a stranger wrote, without doing what the stranger likes.

A schema can name addresses to read (`$ref`), expressions that take for ever (`pattern`) and
references that multiply (a "billion laughs"). None is followed here: only references inside the
schema count, a bounded number of them, and expressions are left to the server, which checks its
arguments anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry

from meshwright_tool_exec.domain import arguments
from meshwright_tool_exec.domain.errors import ToolArgumentsInvalid
from meshwright_tool_exec.domain.models import JsonObject

MAX_REFERENCES: Final = 2_000
"""References followed in one check."""

_followed: ContextVar[int] = ContextVar("mcp_schema_references", default=0)
_references: Final = {
    keyword: Draft202012Validator.VALIDATORS[keyword] for keyword in ("$ref", "$dynamicRef")
}


class _TooManyReferences(Exception):
    pass


def check(values: dict[str, object], schema: JsonObject) -> None:
    """Raise ToolArgumentsInvalid naming every field that does not fit `schema`.

    Also when the schema cannot be followed: it leads elsewhere, or has no end.
    """
    token = _followed.set(0)
    try:
        arguments.report(_VALIDATOR(dict(schema), registry=Registry()).iter_errors(values))
    except ToolArgumentsInvalid:
        raise
    except Exception as error:  # house: broad-except: what a stranger's schema breaks is its own
        raise ToolArgumentsInvalid(
            "the tool's schema cannot be followed: it refers to what is not in it, or without end"
        ) from error
    finally:
        _followed.reset(token)


def _counted(keyword: str) -> Any:
    follow = _references[keyword]

    def counted(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        count = _followed.get() + 1
        if count > MAX_REFERENCES:
            raise _TooManyReferences
        _followed.set(count)
        yield from follow(validator, value, instance, schema) or ()

    return counted


def _unchecked(
    _validator: Any, _value: Any, _instance: Any, _schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    return iter(())


def _beyond(keyword: str) -> Any:
    judge = Draft202012Validator.VALIDATORS[keyword]

    def beyond(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        # Which properties are other ones depends on expressions here.
        if "patternProperties" not in schema:
            yield from judge(validator, value, instance, schema) or ()

    return beyond


_VALIDATOR: Final[Any] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "$ref": _counted("$ref"),
        "$dynamicRef": _counted("$dynamicRef"),
        "pattern": _unchecked,
        "patternProperties": _unchecked,
        "additionalProperties": _beyond("additionalProperties"),
        "unevaluatedProperties": _unchecked,
    },
)
