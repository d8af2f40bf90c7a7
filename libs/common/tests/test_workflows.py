"""Workflows put together by functions: the same data as a file has."""

import pytest

from meshwright_common.workflows import (
    agent,
    approval,
    chain,
    compensate,
    condition,
    delay,
    each,
    first_of,
    group,
    loop,
    read,
    retried,
    step,
    subworkflow,
    tool,
    workflow,
)


def test_parts_wait_for_all_that_ends_the_part_before() -> None:
    left = chain(step("a", delay(1)), step("b", delay(1)))
    whole = chain(group(left, step("c", delay(1))), group(step("d", delay(1)), step("e", delay(1))))
    steps = workflow("w", whole).definition["steps"]
    after = {one["name"]: one.get("after", []) for one in steps}
    assert after == {"a": [], "b": ["a"], "c": [], "d": ["b", "c"], "e": ["b", "c"]}


def test_what_a_step_is_stands_in_its_fields() -> None:
    work = step("work", tool("add", a=1), retry=retried(2), timeout_seconds=0.5, may_fail=True)
    both = condition("input.y", condition("input.x", group(work, step("ask", approval("Now?")))))
    steps = workflow("w", both).definition["steps"]
    assert steps[0] == {
        "name": "work",
        "action": {"tool": {"tool": "add", "arguments": {"a": 1}}},
        "condition": "(input.x) && (input.y)",
        "retry": {"max_attempts": 2, "first_delay": "1s", "max_delay": "300s"},
        "timeout": "0.5s",
        "may_fail": True,
    }
    assert steps[1]["condition"] == "(input.x) && (input.y)"

    again = loop("output.n < 3", step("again", subworkflow("other", n="${item}")), most=3)
    assert (again.repeat_while, again.max_repeats) == ("output.n < 3", 3)
    many = each("input.l", first_of(step("many", agent("chat", "Hi", x=1))), at_once=2)
    assert many.fields()["join"] == "any"
    assert (many.for_each, many.max_parallel) == ("input.l", 2)
    assert compensate(many, delay(90)).fields()["compensation"] == {"delay": "90s"}


def test_a_file_gives_back_what_was_written() -> None:
    flow = workflow(
        "w",
        chain(step("a", delay(1)), step("b", delay(2.25))),
        description="Ünï",
        input_schema={"type": "object"},
        output="steps.b.output",
        max_duration_seconds=60,
    )
    assert read(flow.yaml()) == flow


@pytest.mark.parametrize("text", ["a: [", "- a", "steps: []", ""])
def test_a_file_that_is_no_workflow_says_why(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no YAML|has no name"):
        read(text)


def test_nothing_is_no_part() -> None:
    for make in (chain, group):
        with pytest.raises(ValueError, match="at least one part"):
            make()
