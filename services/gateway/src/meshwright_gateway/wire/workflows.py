"""Workflows and their runs: JSON bodies to requests, messages to JSON bodies."""

from typing import Any, Final, cast

from google.protobuf import duration_pb2, struct_pb2

from meshwright.orchestrator.v1 import task_pb2, workflow_pb2, workflow_service_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.json_body import Json
from meshwright_gateway.http.schemas import workflows as schemas
from meshwright_gateway.http.schemas.work import TaskProblem, TaskStateName
from meshwright_gateway.wire import values

_JOINS: Final = {
    "all": workflow_pb2.WORKFLOW_JOIN_ALL,
    "any": workflow_pb2.WORKFLOW_JOIN_ANY,
}


def create_request(
    body: schemas.WorkflowCreation, request_id: str
) -> workflow_service_pb2.CreateWorkflowRequest:
    """Return the request that stores a workflow. Raises: ShapeRefused."""
    return workflow_service_pb2.CreateWorkflowRequest(
        name=body.name,
        definition=definition_message(body.definition),
        expected_version=body.expected_version,
        request_id=request_id,
    )


def start_request(
    workflow_id: str, body: schemas.RunStart, request_id: str
) -> workflow_service_pb2.StartWorkflowRequest:
    """Return the request that starts a run."""
    return workflow_service_pb2.StartWorkflowRequest(
        workflow_id=workflow_id,
        version=body.version,
        input=values.struct_from(body.input),
        request_id=request_id,
        start_time=values.timestamp_of(body.start_time),
    )


def definition_message(body: schemas.Definition) -> workflow_pb2.WorkflowDefinition:
    """Return a definition as the orchestrator reads it. Raises: ShapeRefused."""
    return workflow_pb2.WorkflowDefinition(
        description=body.description,
        input_schema=_struct(body.input_schema),
        steps=map(_step_message, body.steps),
        output=body.output,
        max_duration=_duration(body.max_duration),
    )


def _step_message(body: schemas.Step) -> workflow_pb2.WorkflowStep:
    retry = None
    if body.retry is not None:
        retry = workflow_pb2.WorkflowRetry(
            max_attempts=body.retry.max_attempts or 0,
            first_delay=_duration(body.retry.first_delay),
            max_delay=_duration(body.retry.max_delay),
        )
    return workflow_pb2.WorkflowStep(
        name=body.name,
        after=body.after,
        join=_JOINS[body.join],
        condition=body.condition,
        for_each=body.for_each,
        max_parallel=body.max_parallel or 0,
        repeat_while=body.repeat_while,
        max_repeats=body.max_repeats or 0,
        retry=retry,
        timeout=_duration(body.timeout),
        may_fail=body.may_fail,
        action=_action_message(body.action),
        compensation=None if body.compensation is None else _action_message(body.compensation),
    )


def _action_message(body: schemas.Action) -> workflow_pb2.WorkflowAction:
    if body.agent is not None:
        agent = workflow_pb2.WorkflowAgentAction(
            agent=body.agent.agent, message=body.agent.message, input=_struct(body.agent.input)
        )
        return workflow_pb2.WorkflowAction(agent=agent)
    if body.tool is not None:
        tool = workflow_pb2.WorkflowToolAction(
            tool=body.tool.tool, arguments=_struct(body.tool.arguments)
        )
        return workflow_pb2.WorkflowAction(tool=tool)
    if body.subworkflow is not None:
        inner = workflow_pb2.WorkflowSubworkflowAction(
            workflow=body.subworkflow.workflow, input=_struct(body.subworkflow.input)
        )
        return workflow_pb2.WorkflowAction(subworkflow=inner)
    if body.approval is not None:
        approval = workflow_pb2.WorkflowApprovalAction(
            question=body.approval.question, answer_schema=_struct(body.approval.answer_schema)
        )
        return workflow_pb2.WorkflowAction(approval=approval)
    return workflow_pb2.WorkflowAction(delay=_duration(body.delay))


def _struct(value: dict[str, Any] | None) -> struct_pb2.Struct | None:
    return None if value is None else values.struct_from(value)


def _duration(text: str | None) -> duration_pb2.Duration | None:
    if text is None:
        return None
    message = duration_pb2.Duration()
    try:
        message.FromJsonString(text)
    except ValueError:
        raise misshapen("definition", f"{text} is no duration") from None
    return message


def workflow_view(message: workflow_pb2.Workflow) -> schemas.Workflow:
    """Return a workflow as JSON shows it."""
    return schemas.Workflow(
        workflow_id=message.workflow_id,
        name=message.name,
        version=message.version,
        definition=definition_view(message.definition),
        created_by=message.created_by,
        create_time=values.moment_from(message.create_time),
        update_time=values.moment_from(message.update_time),
    )


def definition_view(message: workflow_pb2.WorkflowDefinition) -> schemas.Definition:
    """Return a definition as JSON shows it."""
    return schemas.Definition(
        description=message.description,
        input_schema=(
            values.object_from(message.input_schema) if message.HasField("input_schema") else None
        ),
        steps=tuple(map(_step_view, message.steps)),
        output=message.output,
        max_duration=message.max_duration.ToJsonString(),
    )


def _step_view(message: workflow_pb2.WorkflowStep) -> schemas.Step:
    is_any = message.join == workflow_pb2.WORKFLOW_JOIN_ANY
    return schemas.Step(
        name=message.name,
        after=tuple(message.after),
        join="any" if is_any else "all",
        condition=message.condition,
        for_each=message.for_each,
        max_parallel=message.max_parallel or None,
        repeat_while=message.repeat_while,
        max_repeats=message.max_repeats or None,
        retry=schemas.Retry(
            max_attempts=message.retry.max_attempts,
            first_delay=message.retry.first_delay.ToJsonString(),
            max_delay=message.retry.max_delay.ToJsonString(),
        ),
        timeout=message.timeout.ToJsonString(),
        may_fail=message.may_fail,
        action=_action_view(message.action),
        compensation=(
            _action_view(message.compensation) if message.HasField("compensation") else None
        ),
    )


def _action_view(message: workflow_pb2.WorkflowAction) -> schemas.Action:
    match message.WhichOneof("kind"):
        case "agent":
            agent = message.agent
            given = values.object_from(agent.input) if agent.HasField("input") else None
            return schemas.Action(
                agent=schemas.AgentAction(agent=agent.agent, message=agent.message, input=given)
            )
        case "tool":
            arguments = values.object_from(message.tool.arguments)
            return schemas.Action(
                tool=schemas.ToolAction(tool=message.tool.tool, arguments=arguments)
            )
        case "subworkflow":
            inner = message.subworkflow
            return schemas.Action(
                subworkflow=schemas.SubworkflowAction(
                    workflow=inner.workflow, input=values.object_from(inner.input)
                )
            )
        case "approval":
            approval = message.approval
            schema = None
            if approval.HasField("answer_schema"):
                schema = values.object_from(approval.answer_schema)
            return schemas.Action(
                approval=schemas.ApprovalAction(question=approval.question, answer_schema=schema)
            )
        case _:
            return schemas.Action(delay=message.delay.ToJsonString())


def run_view(message: workflow_pb2.WorkflowRun) -> schemas.Run:
    """Return a run as JSON shows it."""
    return schemas.Run(
        run_id=message.run_id,
        workflow_id=message.workflow_id,
        workflow_version=message.workflow_version,
        state=cast(
            TaskStateName,
            values.enum_name(task_pb2.TaskState, message.state, "TASK_STATE_"),
        ),
        input=values.object_from(message.input),
        output=value_from(message.output),
        error=_problem(message),
        steps=[_step_run_view(step) for step in message.steps],
        usage=values.usage_from(message.usage),
        schedule_id=message.schedule_id,
        parent_run_id=message.parent_run_id,
        created_by=message.created_by,
        create_time=values.moment_from(message.create_time),
        end_time=values.time_from(message.end_time),
    )


def step_state(message: workflow_pb2.WorkflowStepRun) -> schemas.StepStateName:
    """Return the state of a step by the name of JSON."""
    name = values.enum_name(workflow_pb2.WorkflowStepState, message.state, "WORKFLOW_STEP_STATE_")
    return cast(schemas.StepStateName, name)


def _step_run_view(message: workflow_pb2.WorkflowStepRun) -> schemas.StepRun:
    return schemas.StepRun(
        name=message.name,
        state=step_state(message),
        attempt=message.attempt,
        child_ids=list(message.child_ids),
        output=value_from(message.output),
        error=_problem(message),
        interrupt_id=message.interrupt_id,
        start_time=values.time_from(message.start_time),
        end_time=values.time_from(message.end_time),
    )


def _problem(
    message: workflow_pb2.WorkflowRun | workflow_pb2.WorkflowStepRun,
) -> TaskProblem | None:
    if not message.HasField("error"):
        return None
    error = message.error
    return TaskProblem(reason=error.reason, message=error.message, retryable=error.retryable)


def value_from(message: struct_pb2.Value) -> Json:
    """Return a value as JSON; one that is absent as null."""
    holder = struct_pb2.Struct()
    holder.fields["value"].CopyFrom(message)
    return values.object_from(holder)["value"]
