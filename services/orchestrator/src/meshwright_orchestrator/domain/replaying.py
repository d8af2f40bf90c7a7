"""Running the journal of a task through the decider of today, which calls nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshwright_common.context import Principal
from meshwright_common.errors import FailedPrecondition
from meshwright_orchestrator.domain import decider, deciding
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.decider import Decision, Finish
from meshwright_orchestrator.domain.errors import JournalUnreadable
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.ports import Tasks
from meshwright_orchestrator.domain.runner import fits
from meshwright_orchestrator.domain.tasks import TaskDesk


@dataclass(frozen=True, slots=True)
class Replay:
    """`first_difference`: the first step that the decider would not have done, 0 for none."""

    first_difference: int = 0

    @property
    def identical(self) -> bool:
        """Whether every decision was the same."""
        return not self.first_difference


class ReplayDesk:
    """Replays tasks that a caller may see."""

    def __init__(self, desk: TaskDesk, tasks: Tasks, agents: AgentDirectory) -> None:
        self._desk = desk
        self._tasks = tasks
        self._agents = agents

    async def replay(self, caller: Principal, task_id: str) -> Replay:
        """Replay what is journaled of a task, whatever its state.

        Raises: TaskNotFound; FailedPrecondition for tasks of agents that decide for themselves
        (graphs, remote agents), and of engines that are not known here.
        """
        await self._desk.get(caller, task_id)
        task, steps = await self._tasks.read(caller.tenant_id, task_id, after_step=0)
        version = task.limits.agent_version
        if not version and task.spec.agent not in self._agents.builtin:
            raise FailedPrecondition(
                f"agent {task.spec.agent} decides for itself: its tasks have no decider to replay"
            )
        if task.engine_version not in decider.KNOWN_VERSIONS:
            raise FailedPrecondition(f"engine {task.engine_version} is not known here")
        agent = await self._agents.find(task.tenant_id, task.spec.agent, version)
        return replay(deciding.begin(agent, task.spec, task.limits), task, steps)


def replay(decision: Decision, task: Task, steps: Sequence[Step]) -> Replay:
    """Return whether the decider, from its first decision, would have done these steps.

    A result that it would not have given counts as a difference of the last step.
    """
    for entry in steps:
        if not fits(decision.command, entry.outcome):
            return Replay(entry.number)
        try:
            decision = decider.step(decision.state, entry.outcome)
        except JournalUnreadable:
            return Replay(entry.number)
    if task.result is None:
        return Replay()
    match decision.command:
        case Finish(result) if (result.answer, result.output) == (
            task.result.answer,
            task.result.output,
        ):
            return Replay()
        case _:
            return Replay(steps[-1].number if steps else 1)
