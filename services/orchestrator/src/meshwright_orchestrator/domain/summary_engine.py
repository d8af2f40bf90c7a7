"""The agent "summary": makes memories of a session's turns, a batch at a time.

A task of its own, so that no user waits for it, and a crash repeats nothing: the model's answer is
journaled before it is stored, and a batch is stored once (ADR 0017).
"""

from dataclasses import replace
from typing import Final

from meshwright_orchestrator.domain import summarising
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.agents import SUMMARY, AgentSpec
from meshwright_orchestrator.domain.conversation import ToolUse
from meshwright_orchestrator.domain.errors import AgentNotFound
from meshwright_orchestrator.domain.journal import ModelAnswered
from meshwright_orchestrator.domain.memory_ports import Memory
from meshwright_orchestrator.domain.models import Failure, Result, Task, TaskState
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.workbench import Workbench

NO_SUMMARY: Final = Failure("PROVIDER_PROTOCOL", "the model ended without a summary", True)


class SummaryEngine:
    """Works on tasks of the agent. Steps: read the batch, ask the model, store what it made."""

    def __init__(self, memory: Memory, agents: AgentDirectory) -> None:
        self._memory = memory
        self._agents = agents

    async def work(self, bench: Workbench) -> Ending:
        session_id = bench.task.spec.session_id
        bench.lease.check()
        agent = await self._answering(bench.task)
        if agent is not None and agent.summary_turns == 0:
            return _completed(bench)
        batch = await self._memory.next_batch(session_id)
        if not batch.batch_id:
            return _completed(bench)
        answer = _journaled(bench)
        if answer is None:
            messages = summarising.prompt(batch, max_tokens=bench.task.limits.history_tokens)
            answer = await bench.generate(messages, ToolUse.NONE, offers=(), feature=SUMMARY)
            answer = replace(answer, tool_calls=(), digest=batch.batch_id)
            await bench.commit(answer)
        if answer.digest != batch.batch_id:
            # Stored by an earlier attempt, whose end was not written.
            return _completed(bench)
        digest = summarising.digest_of(answer.text, batch)
        if digest is None:
            return Ending(TaskState.FAILED, failure=NO_SUMMARY, usage=bench.usage)
        bench.lease.check()
        learned = digest.learned if agent is None or agent.learns else ()
        await self._memory.store_summary(session_id, batch.batch_id, digest.summary, learned)
        return _completed(bench)

    async def _answering(self, task: Task) -> AgentSpec | None:
        """Return the agent that answered the turn after which a summary is due."""
        name = (task.spec.input or {}).get("agent")
        if not isinstance(name, str):
            return None
        try:
            choice = await self._agents.pick(task.tenant_id, name, task.spec.session_id)
        except AgentNotFound:
            return None
        return choice.spec


def _journaled(bench: Workbench) -> ModelAnswered | None:
    for step in bench.steps:
        if isinstance(step.outcome, ModelAnswered):
            return step.outcome
    return None


def _completed(bench: Workbench) -> Ending:
    # What was made of the batch is in memory: no second copy of it.
    return Ending(TaskState.COMPLETED, result=Result("", usage=bench.usage), usage=bench.usage)
