"""Definitions of workflows: protobuf to domain and back."""

from datetime import timedelta
from typing import Final

from google.protobuf import duration_pb2, json_format, struct_pb2

from meshwright.orchestrator.v1 import workflow_pb2
from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.workflows.definition import (
    DEFAULT_APPROVAL_SECONDS,
    DEFAULT_PARALLEL,
    DEFAULT_RUN_SECONDS,
    DEFAULT_STEP_SECONDS,
    Action,
    AgentAction,
    ApprovalAction,
    DelayAction,
    Join,
    Retry,
    SubworkflowAction,
    ToolAction,
    WorkflowDefinition,
    WorkflowStep,
)
from meshwright_orchestrator.wire import values
from meshwright_orchestrator.wire.structs import check_struct, plain

MAX_DEFINITION_BYTES: Final = 1024 * 1024
_JOINS: Final = {
    workflow_pb2.WORKFLOW_JOIN_UNSPECIFIED: Join.ALL,
    workflow_pb2.WORKFLOW_JOIN_ALL: Join.ALL,
    workflow_pb2.WORKFLOW_JOIN_ANY: Join.ANY,
}
_DEFAULT_RETRY: Final = Retry()


def definition_from(message: workflow_pb2.WorkflowDefinition) -> WorkflowDefinition:
    """Return a definition, absent values as their defaults; its rules are checked elsewhere.

    Raises: InvalidArgument naming the field of a value that has no form.
    """
    if message.ByteSize() > MAX_DEFINITION_BYTES:
        raise invalid("definition", f"must be at most {MAX_DEFINITION_BYTES} bytes")
    return WorkflowDefinition(
        description=message.description,
        input_schema=_object(message, "input_schema", "definition"),
        steps=tuple(
            _step(step, f"definition.steps[{index}]") for index, step in enumerate(message.steps)
        ),
        output=message.output,
        max_seconds=_seconds(message, "max_duration", "definition", DEFAULT_RUN_SECONDS),
    )


def _step(message: workflow_pb2.WorkflowStep, field: str) -> WorkflowStep:
    if message.join not in _JOINS:
        raise invalid(f"{field}.join", "must be ALL or ANY")
    if not message.HasField("action"):
        raise invalid(f"{field}.action", f"step {message.name[:64]}: must not be empty")
    action = _action(message.action, f"{field}.action")
    usual = DEFAULT_APPROVAL_SECONDS if _takes_people(action) else DEFAULT_STEP_SECONDS
    compensation = None
    if message.HasField("compensation"):
        compensation = _action(message.compensation, f"{field}.compensation")
    return WorkflowStep(
        name=message.name,
        action=action,
        after=tuple(message.after),
        join=_JOINS[message.join],
        condition=message.condition,
        for_each=message.for_each,
        max_parallel=message.max_parallel or DEFAULT_PARALLEL,
        repeat_while=message.repeat_while,
        max_repeats=message.max_repeats,
        retry=_retry(message, field),
        timeout_seconds=_seconds(message, "timeout", field, usual),
        may_fail=message.may_fail,
        compensation=compensation,
    )


def _takes_people(action: Action) -> bool:
    return isinstance(action, ApprovalAction)


def _retry(step: workflow_pb2.WorkflowStep, field: str) -> Retry:
    retry, field = step.retry, f"{field}.retry"
    return Retry(
        max_attempts=retry.max_attempts or _DEFAULT_RETRY.max_attempts,
        first_delay_seconds=_seconds(
            retry, "first_delay", field, _DEFAULT_RETRY.first_delay_seconds
        ),
        max_delay_seconds=_seconds(retry, "max_delay", field, _DEFAULT_RETRY.max_delay_seconds),
    )


def _action(message: workflow_pb2.WorkflowAction, field: str) -> Action:
    match message.WhichOneof("kind"):
        case "agent":
            agent = message.agent
            given = _object(agent, "input", f"{field}.agent")
            return AgentAction(agent.agent, agent.message, given)
        case "tool":
            arguments = _object(message.tool, "arguments", f"{field}.tool") or {}
            return ToolAction(message.tool.tool, arguments)
        case "subworkflow":
            given = _object(message.subworkflow, "input", f"{field}.subworkflow") or {}
            return SubworkflowAction(message.subworkflow.workflow, given)
        case "approval":
            schema = _object(message.approval, "answer_schema", f"{field}.approval")
            return ApprovalAction(message.approval.question, schema)
        case "delay":
            return DelayAction(_seconds(message, "delay", field, 0.0))
        case _:
            raise invalid(field, "must be one of agent, tool, subworkflow, approval and delay")


_WithDurations = (
    workflow_pb2.WorkflowDefinition
    | workflow_pb2.WorkflowStep
    | workflow_pb2.WorkflowRetry
    | workflow_pb2.WorkflowAction
)


def _seconds(message: _WithDurations, name: str, field: str, absent: float) -> float:
    if not message.HasField(name):  # type: ignore[arg-type] # one of its durations
        return absent
    duration: duration_pb2.Duration = getattr(message, name)
    try:
        return duration.ToTimedelta().total_seconds()
    except (ValueError, OverflowError):
        raise invalid(f"{field}.{name}", "is no duration") from None


_WithStructs = (
    workflow_pb2.WorkflowDefinition
    | workflow_pb2.WorkflowAgentAction
    | workflow_pb2.WorkflowToolAction
    | workflow_pb2.WorkflowSubworkflowAction
    | workflow_pb2.WorkflowApprovalAction
)


def _object(message: _WithStructs, name: str, field: str) -> JsonObject | None:
    if not message.HasField(name):  # type: ignore[arg-type] # one of its structs
        return None
    struct: struct_pb2.Struct = getattr(message, name)
    check_struct(struct, f"{field}.{name}")
    return plain(struct)


def definition_message(definition: WorkflowDefinition) -> workflow_pb2.WorkflowDefinition:
    """Return a definition as the wire shows it, defaults filled in."""
    message = workflow_pb2.WorkflowDefinition(
        description=definition.description,
        input_schema=values.struct_message(definition.input_schema),
        steps=map(_step_message, definition.steps),
        output=definition.output,
    )
    message.max_duration.FromTimedelta(timedelta(seconds=definition.max_seconds))
    return message


def _step_message(step: WorkflowStep) -> workflow_pb2.WorkflowStep:
    message = workflow_pb2.WorkflowStep(
        name=step.name,
        after=step.after,
        join=(
            workflow_pb2.WORKFLOW_JOIN_ANY
            if step.join is Join.ANY
            else workflow_pb2.WORKFLOW_JOIN_ALL
        ),
        condition=step.condition,
        for_each=step.for_each,
        max_parallel=step.max_parallel,
        repeat_while=step.repeat_while,
        max_repeats=step.max_repeats,
        may_fail=step.may_fail,
        action=_action_message(step.action),
    )
    message.timeout.FromTimedelta(timedelta(seconds=step.timeout_seconds))
    message.retry.max_attempts = step.retry.max_attempts
    message.retry.first_delay.FromTimedelta(timedelta(seconds=step.retry.first_delay_seconds))
    message.retry.max_delay.FromTimedelta(timedelta(seconds=step.retry.max_delay_seconds))
    if step.compensation is not None:
        message.compensation.CopyFrom(_action_message(step.compensation))
    return message


def _action_message(action: Action) -> workflow_pb2.WorkflowAction:
    message = workflow_pb2.WorkflowAction()
    match action:
        case AgentAction(agent, text, given):
            message.agent.CopyFrom(
                workflow_pb2.WorkflowAgentAction(
                    agent=agent, message=text, input=values.struct_message(given)
                )
            )
        case ToolAction(tool, arguments):
            message.tool.CopyFrom(
                workflow_pb2.WorkflowToolAction(
                    tool=tool, arguments=values.struct_message(arguments)
                )
            )
        case SubworkflowAction(workflow, given):
            message.subworkflow.CopyFrom(
                workflow_pb2.WorkflowSubworkflowAction(
                    workflow=workflow, input=values.struct_message(given)
                )
            )
        case ApprovalAction(question, schema):
            message.approval.CopyFrom(
                workflow_pb2.WorkflowApprovalAction(
                    question=question, answer_schema=values.struct_message(schema)
                )
            )
        case DelayAction(seconds):
            message.delay.FromTimedelta(timedelta(seconds=seconds))
    return message


def definition_record(definition: WorkflowDefinition) -> JsonObject:
    """Return a definition as it is stored: the wire's JSON."""
    return json_format.MessageToDict(
        definition_message(definition), preserving_proto_field_name=True
    )


def stored_definition(record: JsonObject) -> WorkflowDefinition:
    """Return what was stored. Fields of later versions are left out."""
    message = workflow_pb2.WorkflowDefinition()
    json_format.ParseDict(dict(record), message, ignore_unknown_fields=True)
    return definition_from(message)
