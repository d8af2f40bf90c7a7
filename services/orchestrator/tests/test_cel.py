"""Expressions: what they mean, and that none of them holds a process up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshwright_orchestrator.adapters.cel import Cel
from meshwright_orchestrator.domain.workflows.expressions import (
    ExpressionWrong,
    filled,
    pieces_of,
    steps_named_in,
)

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cel() -> AsyncIterator[Cel]:
    """The language, closed at the end."""
    language = Cel()
    try:
        yield language
    finally:
        await language.aclose()


async def test_values_are_json_and_whole_numbers_stay_whole(cel: Cel) -> None:
    variables = {"input": {"n": 20, "l": [1, 2]}, "steps": {"a": {"output": None}}}
    cases: list[tuple[str, Any]] = [
        ("input.n + 1", 21),
        ("input.l.map(x, x * 2)", [2, 4]),
        ("steps.a.output == null", True),
        ("has(input.m) ? input.m : 'none'", "none"),
        ("{'a': input.l}", {"a": [1, 2]}),
        ("duration('90s')", "90s"),
    ]
    assert [await cel.evaluate(text, variables) for text, _ in cases] == [
        value for _, value in cases
    ]


@pytest.mark.parametrize(
    "text", ["input +", "nobody.x", "(" * 100 + "1" + ")" * 100, "type(1)", "1 / 0", " "]
)
async def test_what_has_no_value_says_so(cel: Cel, text: str) -> None:
    with pytest.raises(ExpressionWrong):
        await cel.evaluate(text, {"input": {}})


@pytest.mark.promise("FLOW-05")
async def test_an_expression_ends_in_time_whatever_it_iterates_over(cel: Cel) -> None:
    """The loop goes on meanwhile, and the next expression is evaluated as if nothing had been."""
    numbers = list(range(9_000))
    turns = 0

    async def live() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    alive = asyncio.ensure_future(live())
    for text in ("input.l.filter(x, x in input.l)", "input.l.map(x, input.l.map(y, y))"):
        with pytest.raises(ExpressionWrong):
            await cel.evaluate(text, {"input": {"l": numbers}})
    assert turns > 50
    alive.cancel()
    assert await cel.evaluate("input.l.map(x, x)", {"input": {"l": [1]}}) == [1]


async def test_templates_keep_types_and_join_texts(cel: Cel) -> None:
    template = {"whole": "${input.n}", "text": "n is ${input.n}, l ${input.l}, $${x}", "plain": 3}
    given = await filled(template, cel, {"input": {"n": 5, "l": ["a"]}})
    assert given == {"whole": 5, "text": 'n is 5, l ["a"], ${x}', "plain": 3}
    assert pieces_of("${ {'a': '}'}.a }") == [(True, "{'a': '}'}.a")]
    with pytest.raises(ExpressionWrong):
        pieces_of("${input.n")


async def test_steps_are_found_by_name_but_not_in_texts() -> None:
    found = steps_named_in("steps.a.output + steps['b'].output + 'steps.c'")
    assert found == {"a", "b"}
