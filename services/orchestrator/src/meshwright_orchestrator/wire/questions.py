"""What a task asks of people, for its readers and for its owner's notifications."""

from typing import Final

from meshwright.orchestrator.v1 import task_pb2
from meshwright_common.events.notification import Notice
from meshwright_orchestrator.domain.answers import schema_of
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.waiting import InterruptKind, Question
from meshwright_orchestrator.wire import values

_KINDS: Final = {
    InterruptKind.QUESTION: task_pb2.INTERRUPT_KIND_QUESTION,
    InterruptKind.APPROVAL: task_pb2.INTERRUPT_KIND_APPROVAL,
}


def question_message(interrupt_id: str, question: Question) -> task_pb2.TaskInterrupt:
    """Return a question as the wire shows it, without its times."""
    message = task_pb2.TaskInterrupt(
        interrupt_id=interrupt_id,
        kind=_KINDS[question.kind],
        question=question.text,
        payload=values.struct_message(question.payload),
        answer_schema=values.struct_message(schema_of(question)),
    )
    if question.call is not None:
        message.tool_call.CopyFrom(values.call_message(question.call))
    return message


def interrupt_notice(task: Task, kinds: list[InterruptKind]) -> Notice:
    """Return what the owner of a task is told when it begins to wait for them: no content."""
    approves = InterruptKind.APPROVAL in kinds
    asks = "asks for your approval" if approves else "asks you a question"
    return Notice(
        user_id=task.owner.subject,
        kind="task.waiting",
        title=f"A task of agent {task.spec.agent} {asks}.",
        resource=f"task/{task.task_id}",
        details={
            "task_id": task.task_id,
            "agent": task.spec.agent,
            "session_id": task.spec.session_id,
            "questions": len(kinds),
        },
    )
