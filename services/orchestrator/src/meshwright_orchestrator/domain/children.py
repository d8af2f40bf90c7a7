"""The tasks that a task hands to other agents."""

from collections.abc import Sequence

from meshwright_common.context import current
from meshwright_orchestrator.domain.acceptance import limits_of, seconds_of
from meshwright_orchestrator.domain.agent_directory import AgentDirectory, Choice
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.decider import ENGINE_VERSION
from meshwright_orchestrator.domain.errors import AgentNotFound
from meshwright_orchestrator.domain.models import Limits, Task, TaskSpec
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.suspension import Handed


class ChildTasks:
    """Makes children of what a parent hands over: as the parent's owner, in its session."""

    def __init__(self, agents: AgentDirectory, limits: Limits) -> None:
        self._agents = agents
        self._limits = limits

    async def kind_of(self, task: Task) -> str:
        """Return the kind of work that a task is, for the queue that it goes to when it is woken.

        Raises: Unavailable.
        """
        return (await self._choice(task.tenant_id, task.spec.agent, task.task_id)).kind

    async def of(
        self, parent: Task, handed: Sequence[Handed]
    ) -> tuple[tuple[NewTask, Queueing], ...]:
        """Return what is stored of each child. Raises: Unavailable."""
        return tuple([await self._child(parent, one) for one in handed])

    async def _child(self, parent: Task, handed: Handed) -> tuple[NewTask, Queueing]:
        wanted = handed.spec
        spec = TaskSpec(
            agent=wanted.agent,
            messages=wanted.messages,
            session_id=parent.spec.session_id,
            model=wanted.model,
            knowledge_base_ids=wanted.knowledge_base_ids or parent.spec.knowledge_base_ids,
            max_steps=wanted.max_steps,
            priority=parent.spec.priority,
            input=wanted.input,
        )
        key = spec.session_id or handed.task_id
        choice = await self._choice(parent.tenant_id, spec.agent, key)
        new = NewTask(
            task_id=handed.task_id,
            owner=parent.owner,
            correlation_id=parent.correlation_id,
            spec=spec,
            limits=limits_of(spec, choice, self._limits),
            engine_version=ENGINE_VERSION,
            request_id="",
            max_seconds=seconds_of(spec, choice),
            parent_task_id=parent.task_id,
            root_task_id=parent.root_task_id or parent.task_id,
            depth=parent.depth + 1,
        )
        return new, Queueing(choice.kind, spec.priority, current().trace)

    async def _choice(self, tenant_id: str, agent: str, key: str) -> Choice:
        try:
            return await self._agents.pick(tenant_id, agent, key)
        except AgentNotFound:
            # The child fails with that: its parent reads it as the result, and may do without.
            return Choice(AgentType.CHAT.value)
