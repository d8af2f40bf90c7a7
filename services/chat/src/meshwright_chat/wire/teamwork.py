"""Plans and the work of other agents: messages to the domain and back."""

from typing import Final

from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import plan_pb2
from meshwright_chat.domain.teamwork import Handed, Planned, PlanStep

_STEP: Final = "PLAN_STEP_STATE_"
_TASK: Final = "TASK_STATE_"


def plan_from(message: plan_pb2.Plan) -> Planned:
    """Return the plan."""
    steps = (
        PlanStep(step.text, _name(plan_pb2.PlanStepState.Name(step.state), _STEP))
        for step in message.steps
    )
    return Planned(tuple(steps), message.revision, message.note)


def plan_message(plan: Planned) -> plan_pb2.Plan:
    """Return the plan as the wire shows it."""
    return plan_pb2.Plan(
        steps=(
            plan_pb2.PlanStep(
                text=step.text, state=plan_pb2.PlanStepState.Value(_STEP + step.state.upper())
            )
            for step in plan.steps
        ),
        revision=plan.revision,
        note=plan.note,
    )


def child_from(message: task_pb2.TaskChild) -> Handed:
    """Return what became of an agent that works for another one."""
    state = _name(task_pb2.TaskState.Name(message.state), _TASK)
    return Handed(message.task_id, message.agent, state)


def child_message(handed: Handed) -> task_pb2.TaskChild:
    """Return it as the wire shows it."""
    state = task_pb2.TaskState.Value(_TASK + handed.state.upper())
    return task_pb2.TaskChild(task_id=handed.task_id, agent=handed.agent, state=state)


def _name(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
