"""Checks of a definition. Each error names the step and the field."""

import re
from collections.abc import Sequence
from typing import Final

from meshwright_common.errors import InvalidArgument, invalid
from meshwright_orchestrator.domain import answers, output_schema
from meshwright_orchestrator.domain.workflows.definition import (
    DAY_SECONDS,
    Action,
    AgentAction,
    ApprovalAction,
    DelayAction,
    SubworkflowAction,
    ToolAction,
    WorkflowDefinition,
    WorkflowStep,
    templates_of,
)
from meshwright_orchestrator.domain.workflows.expressions import (
    MAX_EXPRESSION_CHARACTERS,
    Expressions,
    ExpressionWrong,
    expressions_in,
    steps_named_in,
)

MAX_STEPS: Final = 200
MAX_DESCRIPTION_CHARACTERS: Final = 2_000
MAX_QUESTION_BYTES: Final = 4 * 1024
MAX_NAME_CHARACTERS: Final = 200
LONGEST_SECONDS: Final = 30 * DAY_SECONDS
ROOT: Final = "definition"
_WORKFLOW_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_STEP_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")


def check_name(name: str) -> None:
    """Raises: InvalidArgument unless it can be a workflow's name."""
    if not _WORKFLOW_NAME.fullmatch(name):
        raise invalid("name", "must be 1 to 64 of a-z, 0-9, _ and -")


def check_definition(definition: WorkflowDefinition, expressions: Expressions) -> None:
    """Raises: InvalidArgument naming the step and the field."""
    if len(definition.description) > MAX_DESCRIPTION_CHARACTERS:
        raise invalid(
            f"{ROOT}.description", f"must be at most {MAX_DESCRIPTION_CHARACTERS} characters"
        )
    if not 1 <= len(definition.steps) <= MAX_STEPS:
        raise invalid(f"{ROOT}.steps", f"must be 1 to {MAX_STEPS}, are {len(definition.steps)}")
    if definition.input_schema is not None:
        _check_schema(output_schema.wrong_with(definition.input_schema), f"{ROOT}.input_schema")
    _check_seconds(definition.max_seconds, f"{ROOT}.max_duration")
    _check_names(definition.steps)
    _check_order(definition.steps)
    names = frozenset(step.name for step in definition.steps)
    for index, step in enumerate(definition.steps):
        _Step(step, f"{ROOT}.steps[{index}]", expressions).check(definition.before(step.name))
    if definition.output:
        _check_expression(definition.output, f"{ROOT}.output", expressions, names)


def _check_schema(wrong: str, field: str) -> None:
    if wrong:
        raise invalid(field, wrong)


def _check_names(steps: Sequence[WorkflowStep]) -> None:
    seen: set[str] = set()
    for index, step in enumerate(steps):
        field = f"{ROOT}.steps[{index}].name"
        if not _STEP_NAME.fullmatch(step.name):
            raise invalid(field, "must be 1 to 64 of a-z, 0-9 and _")
        if step.name in seen:
            raise invalid(field, f"there is another step named {step.name}")
        seen.add(step.name)
    for index, step in enumerate(steps):
        field = f"{ROOT}.steps[{index}].after"
        for name in step.after:
            if name not in seen:
                raise invalid(field, f"step {step.name}: there is no step named {name[:64]}")
        if len(set(step.after)) < len(step.after):
            raise invalid(field, f"step {step.name}: names a step twice")


def _check_order(steps: Sequence[WorkflowStep]) -> None:
    """Raises: InvalidArgument for a circle, naming the steps on it or behind it."""
    waiting = {step.name: set(step.after) for step in steps}
    while free := [name for name, after in waiting.items() if not after]:
        for name in free:
            del waiting[name]
        for after in waiting.values():
            after.difference_update(free)
    if waiting:
        index = next(number for number, step in enumerate(steps) if step.name in waiting)
        raise invalid(
            f"{ROOT}.steps[{index}].after",
            f"these steps wait for each other in a circle: {', '.join(sorted(waiting))[:500]}",
        )


def _check_seconds(seconds: float, field: str, least: float = 1.0) -> None:
    if not least <= seconds <= LONGEST_SECONDS:
        raise invalid(field, f"must be {least:g} s to 30 days")


def _check_expression(
    expression: str, field: str, expressions: Expressions, readable: frozenset[str]
) -> None:
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise invalid(field, f"must be at most {MAX_EXPRESSION_CHARACTERS} characters")
    try:
        expressions.check(expression)
    except ExpressionWrong as error:
        raise invalid(field, error.message) from None
    for name in sorted(steps_named_in(expression) - readable):
        raise invalid(field, f"reads steps.{name}, which does not come before it (after)")


class _Step:
    """The checks of one step; `field` is its path."""

    def __init__(self, step: WorkflowStep, field: str, expressions: Expressions) -> None:
        self._step = step
        self._field = field
        self._expressions = expressions

    def check(self, before: frozenset[str]) -> None:
        """Raises: InvalidArgument. `before` are the steps whose outputs it may read."""
        try:
            self._check(before)
        except InvalidArgument as error:
            if not error.field_violations:
                raise
            violation = error.field_violations[0]
            raise invalid(
                violation.field, f"step {self._step.name}: {violation.description}"
            ) from None

    def _check(self, before: frozenset[str]) -> None:
        step, field = self._step, self._field
        for name in ("condition", "for_each", "repeat_while"):
            if expression := getattr(step, name):
                _check_expression(expression, f"{field}.{name}", self._expressions, before)
        self._check_loops()
        self._check_retry()
        _check_seconds(step.timeout_seconds, f"{field}.timeout")
        self._check_action(step.action, f"{field}.action", before)
        if step.compensation is not None:
            self._check_action(step.compensation, f"{field}.compensation", before | {step.name})

    def _check_loops(self) -> None:
        step, field = self._step, self._field
        if not 1 <= step.max_parallel <= 100:
            raise invalid(f"{field}.max_parallel", "must be 0 to 100")
        if step.repeat_while and step.for_each:
            raise invalid(f"{field}.repeat_while", "is refused together with for_each")
        if step.repeat_while and not 1 <= step.max_repeats <= 100:
            raise invalid(f"{field}.max_repeats", "must be 1 to 100 with repeat_while")
        if step.max_repeats and not step.repeat_while:
            raise invalid(f"{field}.max_repeats", "is refused without repeat_while")

    def _check_retry(self) -> None:
        retry, field = self._step.retry, f"{self._field}.retry"
        if not 1 <= retry.max_attempts <= 10:
            raise invalid(f"{field}.max_attempts", "must be 0 to 10")
        if not 0.1 <= retry.first_delay_seconds <= 3600:
            raise invalid(f"{field}.first_delay", "must be 0.1 s to 1 h")
        if not 0.1 <= retry.max_delay_seconds <= DAY_SECONDS:
            raise invalid(f"{field}.max_delay", "must be 0.1 s to 24 h")

    def _check_action(self, action: Action, field: str, before: frozenset[str]) -> None:
        _check_kind(action, field)
        for path, template in templates_of(action):
            place = f"{field}.{path}"
            try:
                found = list(expressions_in(template))
            except ExpressionWrong as error:
                raise invalid(place, error.message) from None
            for expression in found:
                _check_expression(expression, place, self._expressions, before)


def _check_kind(action: Action, field: str) -> None:
    match action:
        case AgentAction():
            _check_target(action.agent, f"{field}.agent.agent")
            if not action.message and action.input is None:
                raise invalid(f"{field}.agent.message", "must not be empty without input")
        case ToolAction():
            _check_target(action.tool, f"{field}.tool.tool")
        case SubworkflowAction() if not _WORKFLOW_NAME.fullmatch(action.workflow):
            raise invalid(f"{field}.subworkflow.workflow", "is no name of a workflow")
        case ApprovalAction():
            _check_approval(action, f"{field}.approval")
        case DelayAction():
            _check_seconds(action.seconds, f"{field}.delay")
        case _:
            pass


def _check_approval(action: ApprovalAction, field: str) -> None:
    if not 1 <= len(action.question.encode()) <= MAX_QUESTION_BYTES:
        raise invalid(f"{field}.question", f"must be 1 to {MAX_QUESTION_BYTES} bytes")
    if action.answer_schema is not None:
        _check_schema(answers.fault_of_schema(action.answer_schema), f"{field}.answer_schema")


def _check_target(name: str, field: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or "\0" in name:
        raise invalid(field, f"must be 1 to {MAX_NAME_CHARACTERS} characters")
