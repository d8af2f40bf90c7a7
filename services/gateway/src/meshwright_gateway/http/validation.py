"""Bodies into their models, with errors that name the field."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from meshwright_common.errors import FieldViolation
from meshwright_gateway.errors import ShapeRefused

M = TypeVar("M", bound=BaseModel)

_MAX_SHOWN: Final = 20
_SOURCES: Final = frozenset({"body", "query", "path", "header"})
_TEXTS: Final = {
    "extra_forbidden": "is not a field of this request",
    "missing": "is required",
}
_NO_OBJECT: Final = frozenset({"dict_type", "model_attributes_type", "model_type"})


def validated(model: type[M], content: object) -> M:
    """Return `content` as `model`. Raises: ShapeRefused naming each wrong field."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise shape_error(error.errors(include_url=False, include_input=False), content) from None


def shape_error(errors: Sequence[Mapping[str, Any]], content: object) -> ShapeRefused:
    """Return the refusal for what pydantic found in `content`, one violation a field."""
    by_field: dict[str, str] = {}
    for error in errors:
        field = ".".join(_path_of(error, content)) or "body"
        text = _text_of(error["type"], str(error["msg"]))
        by_field.setdefault(field, text[:1].lower() + text[1:])
    violations = [
        FieldViolation(field, text)
        for field, text in by_field.items()
        # Of a union every branch complains; the deepest one says most.
        if not any(other.startswith(f"{field}.") for other in by_field)
    ]
    first, *others = violations
    more = f" (and {len(others)} more)" if others else ""
    return ShapeRefused(
        f"{first.field}: {first.description}{more}",
        field_violations=tuple(violations[:_MAX_SHOWN]),
    )


def _text_of(kind: str, message: str) -> str:
    if kind in _NO_OBJECT:
        return "must be a JSON object"
    return _TEXTS.get(kind) or message.removeprefix("Value error, ")


def _path_of(error: Mapping[str, Any], content: object) -> Iterator[str]:
    """Yield the steps to the field. Pydantic also names the branches of unions: not those."""
    steps = list(error["loc"])
    source = steps.pop(0) if steps and steps[0] in _SOURCES else "body"
    here: Any = content if source == "body" else None
    for position, step in enumerate(steps):
        if step in _names_in(here):
            here = here[step]
        elif source == "body" and (position + 1 < len(steps) or error["type"] not in _TEXTS):
            continue
        yield str(step)


def _names_in(container: object) -> Container[object]:
    if isinstance(container, Mapping):
        return container
    return range(len(container)) if isinstance(container, list) else ()
