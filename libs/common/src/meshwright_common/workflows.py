"""Workflows in Python: small functions that put steps together, as data.

    from meshwright_common.workflows import agent, chain, group, step, tool, workflow

    flow = workflow(
        "report",
        chain(
            group(
                step("figures", tool("http_get", url="${input.url}")),
                step("history", agent("rag", "What happened to ${input.topic} so far?")),
            ),
            step("report", agent("chat", "Write of ${steps.figures.output} what is new.")),
        ),
    )
    print(flow.yaml())

What they make is the same as a file in YAML says, and is checked where it is stored: names, order,
bounds and expressions. Texts with "${…}" are expressions in CEL, as are those of `condition`,
`each` and `loop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar

import yaml

JsonObject: TypeAlias = dict[str, Any]
Action: TypeAlias = Mapping[str, object]
"""What a step does; made by `agent`, `tool`, `subworkflow`, `approval` and `delay`."""

_PLAIN: Final[Mapping[str, object]] = {"join": "all", "may_fail": False}


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Its fields are those of a step in the file; empty ones are left out."""

    name: str
    action: Action
    after: tuple[str, ...] = ()
    join: str = "all"
    condition: str = ""
    for_each: str = ""
    max_parallel: int = 0
    repeat_while: str = ""
    max_repeats: int = 0
    retry: Mapping[str, object] | None = None
    timeout: str = ""
    may_fail: bool = False
    compensation: Action | None = None

    def fields(self) -> JsonObject:
        """Return the step as the file has it."""
        found: JsonObject = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value not in ("", 0, (), None) and _PLAIN.get(name, ...) != value:
                found[name] = list(value) if isinstance(value, tuple) else value
        return found


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that belong together: `first` begin it, `last` end it."""

    steps: tuple[Step, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]


AnyPart: TypeAlias = Step | Part
_Some = TypeVar("_Some", Step, Part)


def step(
    name: str,
    action: Action,
    *,
    retry: Mapping[str, object] | None = None,
    timeout_seconds: float = 0.0,
    may_fail: bool = False,
) -> Step:
    """Return a step. `retry` is made by `retried`; 0 s and None leave the platform's defaults.

    With `may_fail` the workflow goes on when it fails: its output is then {"error": …}.
    """
    timeout = _seconds(timeout_seconds) if timeout_seconds else ""
    return Step(name, action, retry=retry, timeout=timeout, may_fail=may_fail)


def chain(*parts: AnyPart) -> Part:
    """Return the parts one after the other: each begins when all of the one before has ended.

    Raises: ValueError for none.
    """
    if not parts:
        raise ValueError("a chain has at least one part")
    done = part_of(parts[0])
    for one in parts[1:]:
        following = part_of(one)
        steps = tuple(
            replace(step, after=(*step.after, *done.last)) if step.name in following.first else step
            for step in following.steps
        )
        done = Part((*done.steps, *steps), done.first, following.last)
    return done


def group(*parts: AnyPart) -> Part:
    """Return the parts side by side: none waits for another. Raises: ValueError for none."""
    if not parts:
        raise ValueError("a group has at least one part")
    found = [part_of(one) for one in parts]
    return Part(
        tuple(step for one in found for step in one.steps),
        tuple(name for one in found for name in one.first),
        tuple(name for one in found for name in one.last),
    )


def first_of(one: Step) -> Step:
    """Return a step that begins when the first of those before it has ended well, not all."""
    return replace(one, join="any")


def condition(expression: str, one: _Some) -> _Some:
    """Return the part with each of its steps skipped unless the expression is true."""
    if isinstance(one, Part):
        return replace(one, steps=tuple(condition(expression, step) for step in one.steps))
    both = f"({one.condition}) && ({expression})" if one.condition else expression
    return replace(one, condition=both)


def each(items: str, one: Step, *, at_once: int = 0) -> Step:
    """Return the step done once for each of a list, which it sees as `item`; 0 at once: 10."""
    return replace(one, for_each=items, max_parallel=at_once)


def loop(while_true: str, one: Step, *, most: int) -> Step:
    """Return the step done again while the expression over `output` is true, `most` times more.

    Each round sees the output of the one before as `item`.
    """
    return replace(one, repeat_while=while_true, max_repeats=most)


def compensate(one: Step, action: Action) -> Step:
    """Return the step with what undoes it, when the run fails or is cancelled after it."""
    return replace(one, compensation=action)


def retried(
    attempts: int, *, first_delay_seconds: float = 1.0, max_delay_seconds: float = 300.0
) -> JsonObject:
    """Return how often a step is tried in all, and the waits in between, each twice the last."""
    return {
        "max_attempts": attempts,
        "first_delay": _seconds(first_delay_seconds),
        "max_delay": _seconds(max_delay_seconds),
    }


def agent(name: str, message: str, **given: object) -> Action:
    """Return the action that runs an agent; `given` is its input."""
    return {"agent": {"agent": name, "message": message, **({"input": given} if given else {})}}


def tool(name: str, **arguments: object) -> Action:
    """Return the action that calls a tool."""
    return {"tool": {"tool": name, "arguments": arguments}}


def subworkflow(name: str, **given: object) -> Action:
    """Return the action that runs another workflow, its newest version."""
    return {"subworkflow": {"workflow": name, "input": given}}


def approval(question: str, answer_schema: Mapping[str, object] | None = None) -> Action:
    """Return the action that asks a person.

    Without a schema the answer is a yes, or a no that fails the step.
    """
    asked: JsonObject = {"question": question}
    if answer_schema is not None:
        asked["answer_schema"] = answer_schema
    return {"approval": asked}


def delay(seconds: float) -> Action:
    """Return the action that waits."""
    return {"delay": _seconds(seconds)}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow: its name, and its definition as the file and the API have it."""

    name: str
    definition: JsonObject

    def yaml(self) -> str:
        """Return it as the file that `meshwright workflows create` reads."""
        return yaml.safe_dump(
            {"name": self.name, **self.definition}, sort_keys=False, allow_unicode=True
        )


def workflow(
    name: str,
    whole: AnyPart,
    *,
    description: str = "",
    input_schema: Mapping[str, object] | None = None,
    output: str = "",
    max_duration_seconds: float = 0.0,
) -> Workflow:
    """Return a workflow. `output` is an expression; without one it is that of the last step."""
    definition: JsonObject = {}
    if description:
        definition["description"] = description
    if input_schema is not None:
        definition["input_schema"] = dict(input_schema)
    definition["steps"] = [one.fields() for one in part_of(whole).steps]
    if output:
        definition["output"] = output
    if max_duration_seconds:
        definition["max_duration"] = _seconds(max_duration_seconds)
    return Workflow(name, definition)


def read(text: str) -> Workflow:
    """Return the workflow of a file in YAML or JSON: `name`, and a definition's fields beside it.

    Raises: ValueError that says what is wrong with it.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise ValueError("has no name: a workflow is an object with name, steps, …")
    name = content.pop("name")
    return Workflow(name, {str(key): value for key, value in content.items()})


def part_of(one: AnyPart) -> Part:
    """Return a step as a part of one."""
    return one if isinstance(one, Part) else Part((one,), (one.name,), (one.name,))


def _seconds(seconds: float) -> str:
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"
