"""Agents, tasks, tools and models: JSON bodies to requests, messages to JSON bodies."""

import json
from typing import Final

import orjson

from meshwright.model_router.v1 import generation_pb2
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import work as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.interrupts import interrupt_fields

_ROLES: Final = {
    "system": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
}
PRIORITIES: Final = {
    "high": task_pb2.TASK_PRIORITY_HIGH,
    "normal": task_pb2.TASK_PRIORITY_NORMAL,
    "low": task_pb2.TASK_PRIORITY_LOW,
}
TASK_STATES: Final = {
    values.enum_name(task_pb2.TaskState, number, "TASK_STATE_"): number
    for number in task_pb2.TaskState.values()
    if number
}
"""States by the names of JSON."""


def execute_request(
    body: schemas.ExecuteRequest, request_id: str
) -> agent_service_pb2.ExecuteTaskRequest:
    """Return the request that runs a task. Raises: ShapeRefused."""
    return agent_service_pb2.ExecuteTaskRequest(spec=task_spec(body), request_id=request_id)


def submit_request(
    body: schemas.TaskSubmission, request_id: str
) -> agent_service_pb2.SubmitTaskRequest:
    """Return the request that hands a task to the workers. Raises: ShapeRefused."""
    spec = task_spec(body)
    spec.priority = PRIORITIES[body.priority]
    if body.deadline is not None:
        spec.deadline.FromDatetime(body.deadline)
    if body.start_time is not None:
        spec.start_time.FromDatetime(body.start_time)
    return agent_service_pb2.SubmitTaskRequest(spec=spec, request_id=request_id)


def task_spec(body: schemas.TaskRequest) -> task_pb2.TaskSpec:
    """Return what a body asks of an agent. Raises: ShapeRefused."""
    if (body.message is None) == (not body.messages):
        raise misshapen("message", "give either message or messages")
    spec = task_pb2.TaskSpec(
        agent=body.agent,
        session_id=body.session_id or "",
        model=body.model or "",
        knowledge_base_ids=body.knowledge_base_ids,
        max_steps=body.max_steps or 0,
    )
    if body.message is not None:
        spec.messages.append(_message(message_pb2.ROLE_USER, body.message))
    spec.messages.extend(
        _message(_ROLES[message.role], message.content) for message in body.messages
    )
    if body.input:
        spec.input.CopyFrom(values.struct_from(body.input))
    if body.metadata:
        spec.metadata.CopyFrom(values.struct_from(body.metadata))
    if body.budget is not None:
        spec.budget.CopyFrom(task_pb2.TaskBudget(**body.budget.model_dump(exclude_none=True)))
    return spec


def _message(role: message_pb2.Role.ValueType, text: str) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=[message_pb2.ContentPart(text=text)])


def task_view(task: task_pb2.Task) -> schemas.Task:
    """Return a task as JSON shows it."""
    return schemas.Task.model_validate(
        {
            "task_id": task.task_id,
            "agent": task.spec.agent,
            "agent_version": task.agent_version,
            "state": values.enum_name(task_pb2.TaskState, task.state, "TASK_STATE_"),
            "session_id": task.spec.session_id,
            "attempt": task.attempt,
            "step_count": task.step_count,
            "result": _result_view(task.result) if task.HasField("result") else None,
            "error": _problem_view(task.error) if task.HasField("error") else None,
            "usage": values.usage_from(task.usage),
            "metadata": values.object_from(task.spec.metadata),
            "created_by": task.created_by,
            "create_time": values.moment_from(task.create_time),
            "update_time": values.moment_from(task.update_time),
            "end_time": values.time_from(task.end_time),
            "start_time": values.time_from(task.spec.start_time),
            "parent_task_id": task.parent_task_id,
            "root_task_id": task.root_task_id,
            "interrupts": [interrupt_fields(asked) for asked in task.interrupts],
        }
    )


def _result_view(result: task_pb2.TaskFinal) -> schemas.TaskResult:
    return schemas.TaskResult(
        answer=result.answer,
        citations=list(values.citations_from(result.citations)),
        output=values.object_from(result.output),
    )


def _problem_view(error: task_pb2.TaskError) -> schemas.TaskProblem:
    return schemas.TaskProblem(
        reason=error.reason, message=error.message, retryable=error.retryable
    )


def tool_view(tool: tool_pb2.Tool) -> schemas.Tool:
    """Return a tool as JSON shows it."""
    output = values.object_from(tool.output_schema) if tool.HasField("output_schema") else None
    return schemas.Tool.model_validate(
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": values.object_from(tool.input_schema),
            "output_schema": output,
            "source": values.enum_name(tool_pb2.ToolSource, tool.source, "TOOL_SOURCE_"),
            "effect": values.enum_name(tool_pb2.ToolEffect, tool.effect, "TOOL_EFFECT_"),
            "timeout_milliseconds": tool.timeout_milliseconds,
        }
    )


def tool_request(name: str, body: schemas.ToolExecution) -> tool_service_pb2.ExecuteToolRequest:
    """Return the request that calls a tool."""
    return tool_service_pb2.ExecuteToolRequest(
        name=name,
        # Not orjson: integers may have any length.
        arguments_json=json.dumps(body.arguments, ensure_ascii=False),
        knowledge_base_ids=body.knowledge_base_ids,
        max_result_bytes=body.max_result_bytes or 0,
    )


def tool_answer(call_id: str, outcome: tool_pb2.ToolOutcome) -> schemas.ToolAnswer:
    """Return how a tool's call ended as JSON shows it."""
    return schemas.ToolAnswer(
        call_id=call_id,
        result=orjson.loads(outcome.result_json or b"null"),
        is_error=outcome.is_error,
        truncated=outcome.truncated,
        duration_milliseconds=outcome.duration_milliseconds,
        citations=[orjson.loads(citation) for citation in outcome.citations_json],
    )


def model_view(model: generation_pb2.Model) -> schemas.Model:
    """Return a model as JSON shows it."""
    return schemas.Model(
        name=model.name,
        provider=model.provider,
        context_window=model.context_window or None,
        generates=model.generates,
        embeds=model.embeds,
        embedding_dimensions=model.embedding_dimensions or None,
        capabilities=list(model.capabilities),
    )
