"""Expressions in texts: "${…}" is found, evaluated by a port, and put in its place."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, TypeAlias

import orjson

from meshwright_common.errors import InvalidArgument

MAX_EXPRESSION_CHARACTERS: Final = 2_000
VARIABLES: Final = ("input", "steps", "item", "index", "output")
"""Names that an expression may use; which of them have a value depends on its place."""
MAX_NESTING: Final = 32
"""Depth of structs with expressions."""

Variables: TypeAlias = Mapping[str, object]

_STEP_NAMES: Final = re.compile(r"""\bsteps\s*(?:\.\s*(\w+)|\[\s*["'](\w+)["']\s*\])""")
_STRINGS: Final = re.compile(r"""r?"(?:\\.|[^"\\])*"|r?'(?:\\.|[^'\\])*'""")


class ExpressionWrong(InvalidArgument):
    """An expression that cannot be read, or that had no value."""

    reason = "INVALID_ARGUMENT"


class Expressions(Protocol):
    """The expression language (CEL), bounded: no expression holds the process up."""

    def check(self, expression: str) -> None:
        """Raises: ExpressionWrong when it cannot be read, or names what is no variable."""
        ...

    async def evaluate(self, expression: str, variables: Variables) -> object:
        """Return the value, of plain JSON types. Raises: ExpressionWrong."""
        ...


Piece: TypeAlias = tuple[bool, str]
"""Whether it is an expression, and its text."""


def pieces_of(text: str) -> list[Piece]:
    """Return the pieces of a template; "$${" stands for "${" itself.

    Raises: ExpressionWrong for an expression without an end.
    """
    pieces: list[Piece] = []
    plain, position = "", 0
    while (found := text.find("${", position)) >= 0:
        if found > 0 and text[found - 1] == "$":
            plain += text[position : found - 1] + "${"
            position = found + 2
            continue
        plain += text[position:found]
        end = _end_of(text, found + 2)
        if plain:
            pieces.append((False, plain))
        pieces.append((True, text[found + 2 : end].strip()))
        plain, position = "", end + 1
    plain += text[position:]
    if plain:
        pieces.append((False, plain))
    return pieces


def _end_of(text: str, start: int) -> int:
    """Return where the brace is that closes an expression; braces in strings do not count."""
    depth, quote, position = 1, "", start
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if not depth:
                return position
        position += 1
    raise ExpressionWrong(f"the expression after {text[:40]!r} has no closing brace")


def expressions_in(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the expressions of a template or a struct of templates. Raises: ExpressionWrong."""
    if depth > MAX_NESTING:
        raise ExpressionWrong(f"must nest at most {MAX_NESTING} levels")
    if isinstance(value, str):
        yield from (text for is_expression, text in pieces_of(value) if is_expression)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from expressions_in(one, depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from expressions_in(one, depth + 1)


def steps_named_in(expression: str) -> frozenset[str]:
    """Return the names of steps that an expression reads as `steps.<name>`."""
    plain = _STRINGS.sub(lambda found: found[0] if _is_key(expression, found) else '""', expression)
    return frozenset(first or second for first, second in _STEP_NAMES.findall(plain))


def _is_key(expression: str, found: re.Match[str]) -> bool:
    return expression[: found.start()].rstrip().endswith("[")


async def filled(value: object, expressions: Expressions, variables: Variables) -> object:
    """Return a template with its expressions evaluated.

    A text that is one expression and nothing else becomes the value itself; within a longer text,
    texts are put in as they are and other values as JSON. Raises: ExpressionWrong.
    """
    if isinstance(value, str):
        return await _filled_text(value, expressions, variables)
    if isinstance(value, Mapping):
        return {str(key): await filled(one, expressions, variables) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [await filled(one, expressions, variables) for one in value]
    return value


async def _filled_text(text: str, expressions: Expressions, variables: Variables) -> object:
    pieces = pieces_of(text)
    if len(pieces) == 1 and pieces[0][0]:
        return await expressions.evaluate(pieces[0][1], variables)
    written = ""
    for is_expression, piece in pieces:
        if not is_expression:
            written += piece
            continue
        value = await expressions.evaluate(piece, variables)
        written += value if isinstance(value, str) else orjson.dumps(value).decode()
    return written
