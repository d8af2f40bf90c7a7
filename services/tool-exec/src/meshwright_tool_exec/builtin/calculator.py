"""Calculator: arithmetic by a parser of our own grammar, never by evaluating code."""

import ast
import math
from collections.abc import Callable, Mapping
from decimal import Decimal, DecimalException, localcontext
from typing import Final

from meshwright_tool_exec.domain.errors import ToolFailed
from meshwright_tool_exec.domain.models import CallScope, Effect, ToolOutput, ToolSpec
from meshwright_tool_exec.domain.registry import Tool

MAX_EXPRESSION_CHARACTERS: Final = 500
"""Longer texts are refused before they are parsed."""

PRECISION_DIGITS: Final = 50
"""Significant digits of every intermediate result."""

MAX_EXPONENT: Final = 10_000
"""Largest power and factorial argument: keeps every operation far below a millisecond."""

SPEC: Final = ToolSpec(
    name="calculator",
    description=(
        "Compute an arithmetic expression exactly. Operators + - * / // % **, parentheses, "
        "constants pi and e, functions abs, round, sqrt, exp, ln, log10, log2, sin, cos, tan, "
        "floor, ceil, factorial, min, max. Example: 1250 * 0.175"
    ),
    input_schema={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_EXPRESSION_CHARACTERS,
                "description": "The expression, for example (3 + 4) * 12",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {"expression": {"type": "string"}, "value": {"type": "string"}},
        "required": ["expression", "value"],
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=2.0,
)


def calculator() -> Tool:
    """Return the calculator tool."""
    return Tool(SPEC, _run)


async def _run(arguments: dict[str, object], _scope: CallScope) -> ToolOutput:
    expression = str(arguments["expression"])
    return ToolOutput({"expression": expression, "value": format_number(evaluate(expression))})


def evaluate(expression: str) -> Decimal:
    """Return the value of `expression`, with 50 significant digits.

    Raises: ToolFailed saying what is wrong with the expression.
    """
    text = expression.strip().translate(_SPELLINGS).replace("^", "**")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolFailed(f"{expression!r} is not an arithmetic expression") from error
    try:
        with localcontext() as context:
            context.prec = PRECISION_DIGITS
            value = _value(tree.body)
    except DecimalException as error:
        raise ToolFailed(f"{expression!r} has no value: {_explain(error)}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise ToolFailed(f"{expression!r} has no value: {error}") from error
    if not value.is_finite():
        raise ToolFailed(f"{expression!r} has no finite value")
    return value


def format_number(value: Decimal) -> str:
    """Return `value` as people write it: 15 significant digits unless it is an integer."""
    if value == value.to_integral_value() and abs(value) < Decimal(10) ** 30:
        return str(int(value))
    with localcontext() as context:
        context.prec = 15
        return f"{(+value).normalize():f}" if abs(value) > Decimal("1e-12") else f"{+value:.14e}"


_SPELLINGS: Final = str.maketrans(
    {"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-", "\uff08": "(", "\uff09": ")"}
)
"""Typographic operators and parentheses, as people and models write them."""


def _value(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            raise ValueError("only numbers can be computed with")
        case ast.Constant(value=int() | float() as number):
            return Decimal(repr(number))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            return _binary(type(operator), _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _apply(name, [_value(argument) for argument in arguments])
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            raise ValueError(f"{name} is not known")
        case _:
            raise ValueError("only numbers, + - * / // % **, parentheses and functions are known")


def _apply(name: str, values: list[Decimal]) -> Decimal:
    least, most, function = _FUNCTIONS[name]
    if not least <= len(values) <= most:
        raise ValueError(f"{name} does not take {len(values)} arguments")
    return function(*values)


def _binary(operator: type[ast.operator], left: Decimal, right: Decimal) -> Decimal:
    operation = _OPERATORS.get(operator)
    if operation is None:
        raise ValueError("only + - * / // % ** are known")
    return operation(left, right)


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"exponents beyond {MAX_EXPONENT} are refused")
    return base**exponent


def _floor_divide(left: Decimal, right: Decimal) -> Decimal:
    return (left / right).to_integral_value(rounding="ROUND_FLOOR")


def _factorial(value: Decimal) -> Decimal:
    if value != value.to_integral_value() or not 0 <= value <= 1_000:
        raise ValueError("factorial takes an integer from 0 to 1000")
    return Decimal(math.factorial(int(value)))


def _round(value: Decimal, digits: Decimal = Decimal(0)) -> Decimal:
    if digits != digits.to_integral_value() or abs(digits) > PRECISION_DIGITS:
        raise ValueError("round takes a whole number of digits")
    return value.quantize(Decimal(1).scaleb(-int(digits)))


def _through_float(function: Callable[[float], float]) -> Callable[[Decimal], Decimal]:
    return lambda value: Decimal(repr(function(float(value))))


def _log2(value: Decimal) -> Decimal:
    return value.ln() / Decimal(2).ln()


def _explain(error: DecimalException) -> str:
    name = type(error).__name__
    return {"DivisionByZero": "division by zero", "InvalidOperation": "undefined operation"}.get(
        name, name.lower()
    )


_CONSTANTS: Final[Mapping[str, Decimal]] = {
    "pi": Decimal("3.14159265358979323846264338327950288419716939937511"),
    "e": Decimal("2.71828182845904523536028747135266249775724709369996"),
}

_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: _floor_divide,
    ast.Mod: lambda left, right: left - right * _floor_divide(left, right),
    ast.Pow: _power,
}

_FUNCTIONS: Final[Mapping[str, tuple[int, int, Callable[..., Decimal]]]] = {
    "abs": (1, 1, abs),
    "round": (1, 2, _round),
    "sqrt": (1, 1, Decimal.sqrt),
    "exp": (1, 1, Decimal.exp),
    "ln": (1, 1, Decimal.ln),
    "log10": (1, 1, Decimal.log10),
    "log2": (1, 1, _log2),
    "sin": (1, 1, _through_float(math.sin)),
    "cos": (1, 1, _through_float(math.cos)),
    "tan": (1, 1, _through_float(math.tan)),
    "floor": (1, 1, lambda value: value.to_integral_value(rounding="ROUND_FLOOR")),
    "ceil": (1, 1, lambda value: value.to_integral_value(rounding="ROUND_CEILING")),
    "factorial": (1, 1, _factorial),
    "min": (2, MAX_EXPRESSION_CHARACTERS, min),
    "max": (2, MAX_EXPRESSION_CHARACTERS, max),
}
"""Least and most arguments, and the function."""
