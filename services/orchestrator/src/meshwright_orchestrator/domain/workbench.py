"""What one attempt of a task works with: peers, journal and readers, behind one lease.

Each call to a peer is preceded by a look at the lease, each step's outcome is journaled before
the next one begins, and each event reaches the readers without waiting for any of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import orjson
import structlog

from meshwright_common.errors import (
    Aborted,
    DeadlineExceeded,
    ServiceError,
    Unavailable,
)
from meshwright_orchestrator.domain import waiting_steps
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.approvals import OFFER, may_ask
from meshwright_orchestrator.domain.conversation import (
    MAX_CALLS_OF_MESSAGE,
    JsonObject,
    Message,
    ToolCall,
    ToolOffer,
    ToolUse,
)
from meshwright_orchestrator.domain.decider import PlannedCall, Recall
from meshwright_orchestrator.domain.errors import BudgetExceeded, LeaseLost
from meshwright_orchestrator.domain.events import (
    SEPARATOR,
    Checkpoint,
    Child,
    Chunk,
    Started,
    TaskEvent,
    retold,
)
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Outcome,
    Recalled,
    Step,
    ToolResult,
    ToolsAnswered,
    usage_of,
)
from meshwright_orchestrator.domain.lease import Lease
from meshwright_orchestrator.domain.live_task import LiveTask
from meshwright_orchestrator.domain.memory_ports import Memory
from meshwright_orchestrator.domain.models import Task, Usage
from meshwright_orchestrator.domain.ports import (
    AGENT,
    ModelRequest,
    Models,
    Retriever,
    StepKey,
    Tasks,
    Tell,
    ToolRequest,
    Tools,
    Withdraw,
)
from meshwright_orchestrator.domain.recall import remember, search
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.domain.task_budget import Spent, used_up
from meshwright_orchestrator.domain.waiting import (
    Asked,
    ChildSpec,
    Delegated,
    Question,
    Slept,
)
from meshwright_orchestrator.domain.waits import Waits

logger = structlog.get_logger(__name__)
T = TypeVar("T")

WRITE_AGAIN_SECONDS: Final = 0.3
"""Pause before a write is tried again while the database is away."""
MAX_ERROR_CHARACTERS: Final = 2_000
"""Of an error's text that a model gets to see."""
SLOW_RECALL_SECONDS: Final = 1.0
"""After a longer search the lease is looked at in the database, before a model is called."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The services that steps call."""

    retriever: Retriever
    models: Models
    tools: Tools
    memory: Memory


class Workbench:
    """One attempt of one task in this process. `steps`: its journal so far."""

    def __init__(
        self,
        task: Task,
        steps: Sequence[Step],
        *,
        tasks: Tasks,
        waits: Waits,
        peers: Peers,
        lease: Lease,
    ) -> None:
        self.task = task
        self.steps = tuple(steps)
        self.lease = lease
        self.live = LiveTask(task.task_id, task.attempt, len(steps))
        self._tasks = tasks
        self._waits = waits
        self._peers = peers
        self._agent: AgentSpec | None = None
        self._offered: tuple[ToolOffer, ...] | None = None
        self._next = 1
        self._answer_characters = 0
        self._call_ids: set[str] = set()
        self._held: list[Step] = []
        self.recall_was_slow = False
        self.usage = Usage()
        self.spent = Spent()
        for step in steps:
            self._retell(step)

    def _retell(self, step: Step) -> None:
        events, self._answer_characters = retold(step, self._answer_characters)
        for event in events:
            self.live.tell(step.number, event)
        self._count(step)

    def _count(self, step: Step) -> None:
        if step.number < self._next:
            return
        self._next = step.number + 1
        self.usage += usage_of(step.outcome)
        self.spent += spent_in((step,))
        if isinstance(step.outcome, ModelAnswered):
            self._call_ids.update(call.id for call in step.outcome.tool_calls)

    def works_as(self, agent: AgentSpec) -> None:
        """Call peers as this agent: with its model, its tools and its knowledge bases."""
        self._agent = agent

    @property
    def knowledge_base_ids(self) -> tuple[str, ...]:
        """What is searched: the agent's own bases, else those of the task."""
        of_agent = self._agent.knowledge_base_ids if self._agent else ()
        return of_agent or self.task.spec.knowledge_base_ids

    # --- doing -----------------------------------------------------------------------------------

    async def recall(self, wanted: Recall) -> Recalled:
        """Search documents and memory, and ask for the tools meanwhile.

        Without a right to read, without a default knowledge base and while the search is away
        the task goes on without passages, and without memories likewise.
        Raises: LeaseLost; NotFound of a base that was named.
        """
        self.lease.check()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            searching = (
                group.create_task(
                    search(self._peers.retriever, self.task, wanted, self.knowledge_base_ids)
                )
                if wanted.top_k
                else None
            )
            remembering = group.create_task(remember(self._peers.memory, self.task, wanted))
            group.create_task(self.offered())
        found = searching.result() if searching else Recalled(searched=False)
        if isinstance(found, ServiceError):
            raise found
        found = replace(found, memories=remembering.result())
        if found.searched:
            self.live.tell(self._next, found)
        self.recall_was_slow = loop.time() - began > SLOW_RECALL_SECONDS
        return found

    async def offered(self) -> tuple[ToolOffer, ...]:
        """Return the tools that the agent has and the task's owner may use; none while tool-exec
        cannot tell.
        """
        agent = self._agent
        if agent is not None and agent.tools == ():
            return ()
        if self._offered is None:
            try:
                offers = await self._peers.tools.offered()
                self._offered = tuple(
                    offer for offer in offers if agent is None or agent.may_call(offer.name)
                )
                if agent is not None and may_ask(agent):
                    self._offered = (*self._offered, OFFER)
            except ServiceError as error:
                logger.warning("tools_away", task_id=self.task.task_id, reason=error.reason)
                self._offered = ()
        return self._offered

    async def generate(
        self,
        messages: tuple[Message, ...],
        tool_use: ToolUse,
        *,
        offers: tuple[ToolOffer, ...] | None = None,
        more: tuple[ToolOffer, ...] = (),
        hidden: bool = False,
        silent: bool = False,
        feature: str = AGENT,
        output_schema: JsonObject | None = None,
    ) -> ModelAnswered:
        """Let the model write a message, each piece told at once; return it whole.

        `offers` None: the owner's tools. `more` are offered beside them. `hidden`: the text is told
        as reasoning; `silent`: it is not told. `feature`: what usage records say the call is for.
        `output_schema`: the text should be JSON that fits it.
        Raises: LeaseLost; BudgetExceeded; the model router's error.
        """
        if offers is None:
            offers = await self.offered()
        names = {offer.name for offer in more}
        offers = (*(offer for offer in offers if offer.name not in names), *more)
        await self._check_budget()
        self.lease.check()
        request = ModelRequest(
            key=self._key(),
            model=self.task.spec.model or (self._agent.model if self._agent else ""),
            messages=messages,
            tools=offers,
            tool_use=tool_use,
            feature=feature,
            agent=self._agent,
            output_schema=output_schema,
        )
        tell, withdraw = self._telling(hidden=hidden, silent=silent)
        answer = await self._peers.models.generate(request, tell, withdraw)
        calls = self._distinct(answer.tool_calls)
        return replace(answer, tool_calls=calls, hidden=hidden, silent=silent)

    def say(self, text: str, output: JsonObject) -> GraphAnswered:
        """Tell readers a text that stands for `output`."""
        outcome = GraphAnswered(text, output)
        for event in retold(self._next_step(outcome), self._answer_characters)[0]:
            if isinstance(event, Chunk):
                self.live.tell(self._next, event)
        return outcome

    def _telling(self, *, hidden: bool, silent: bool) -> tuple[Tell, Withdraw]:
        live, step = self.live, self._next
        first = separator = SEPARATOR if self._answer_characters else ""

        def tell(text: str, reasoning: str) -> None:
            nonlocal separator
            if hidden:
                live.tell(step, Chunk("", reasoning + text))
                return
            if silent:
                if reasoning:
                    live.tell(step, Chunk("", reasoning))
                return
            if text and separator:
                text, separator = separator + text, ""
            live.tell(step, Chunk(text, reasoning))

        def withdraw() -> None:
            nonlocal separator
            separator = first
            logger.info("answer_restarted", task_id=self.task.task_id, step=step)
            live.tell(step, Started(self.task.spec.agent, step - 1 - len(self._held)))

        return tell, withdraw

    def _distinct(self, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """Return the calls with ids that are new in this task: not every provider's are."""
        used = set(self._call_ids)
        distinct: list[ToolCall] = []
        for index, call in enumerate(calls[:MAX_CALLS_OF_MESSAGE]):
            if not call.id or call.id in used:
                call = replace(call, id=f"call_{self._next}_{index}")  # noqa: PLW2901 - mended
            used.add(call.id)
            distinct.append(call)
        return tuple(distinct)

    async def use_tools(self, planned: Sequence[PlannedCall]) -> ToolsAnswered:
        """Make the calls, all at once, each told as it begins and ends.

        A call that cannot be made has an error as its result, for the model to read.
        Raises: LeaseLost; BudgetExceeded.
        """
        await self._check_budget()
        self.lease.check()
        key, step = self._key(), self._next
        calls = tuple(plan.call for plan in planned)
        for call in calls:
            self.live.tell(step, call)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(self._use(key, index, plan)) for index, plan in enumerate(planned)
            ]
        return ToolsAnswered(calls, tuple(task.result() for task in running))

    async def _use(self, key: StepKey, index: int, plan: PlannedCall) -> ToolResult:
        call = plan.call
        if plan.refusal:
            result = refused(call, plan.reason, plan.refusal)
        elif plan.answer:
            result = ToolResult(call.id, call.name, plan.answer)
        else:
            bases = self.knowledge_base_ids
            try:
                result = await self._peers.tools.execute(ToolRequest(key, index, call, bases))
            except ServiceError as error:
                result = refused(call, error.reason, error.message)
        self.live.tell(key.step, result)
        return result

    # --- waiting ---------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of the step being done."""
        return self._next

    async def ask(self, questions: Sequence[Question]) -> Asked:
        """Return the answers of people to all of up to 16 questions.

        Raises: Suspended while not all are there; LeaseLost; JournalUnreadable for too many.
        """
        self.lease.check()
        return await waiting_steps.ask(self, self._waits, questions)

    async def delegate(self, children: Sequence[ChildSpec]) -> Delegated:
        """Let up to 16 other agents work, and return how each ended.

        Raises: Suspended while not all have ended; LeaseLost; JournalUnreadable for too many;
        BudgetExceeded for too deep a tree.
        """
        self.lease.check()
        delegated = await waiting_steps.delegate(self, self._waits, children)
        for child in delegated.results:
            self.tell(Child(child.task_id, child.agent, child.state))
        return delegated

    async def sleep(self, seconds: float) -> Slept:
        """Return after so many seconds, counted from when the step first began.

        Raises: Suspended before; LeaseLost.
        """
        self.lease.check()
        return await waiting_steps.sleep(self, self._waits, seconds)

    async def _check_budget(self) -> None:
        """Raises: BudgetExceeded when there is no room for another call; LeaseLost."""
        task = self.task
        if task.root_task_id:
            use = await self.written(lambda: self._waits.tree(task))
            bound = used_up(use.budget, use.spent)
        else:
            bound = used_up(task.spec.budget, self.spent)
        if bound is not None:
            raise BudgetExceeded(budget=bound[0], limit=str(bound[1]))

    def _key(self) -> StepKey:
        task = self.task
        return StepKey(task.task_id, self._next, task.attempt, task.spec.session_id)

    # --- writing down ----------------------------------------------------------------------------

    def hold(self, outcome: Outcome) -> None:
        """Keep the outcome of the step just done, to be journaled together with the next one.

        For steps that only read: doing one again after a crash costs less than a transaction
        before the first token.
        """
        step = self._next_step(outcome)
        self._held.append(step)
        self._count(step)

    def unwritten(self, outcome: Outcome | None = None) -> tuple[Step, ...]:
        """Return the steps that are not journaled yet, that of `outcome` last."""
        if outcome is None:
            return tuple(self._held)
        return (*self._held, self._next_step(outcome))

    def _next_step(self, outcome: Outcome) -> Step:
        return Step(self._next, self.task.attempt, outcome)

    async def commit(self, outcome: Outcome) -> None:
        """Journal the outcome of the step just done. Raises: LeaseLost."""
        steps = self.unwritten(outcome)
        usage = self.usage + usage_of(outcome)
        await self.written(lambda: self._tasks.commit_steps(self.task, steps, usage))
        self.checkpoint(steps)

    def checkpoint(self, steps: Sequence[Step]) -> None:
        """Tell the readers that these steps are journaled, all of them at once."""
        self._held.clear()
        for step in steps:
            _, self._answer_characters = retold(step, self._answer_characters)
            self._count(step)
        if steps:
            last = steps[-1].number
            self.live.tell(last, Checkpoint(last, self._answer_characters))

    async def written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do `write`, again and again while the database is away and the lease is good.

        Raises: LeaseLost.
        """
        while True:
            self.lease.check()
            try:
                return await write()
            except LeaseLost:
                self.lease.lose()
                raise
            except (Unavailable, DeadlineExceeded, Aborted) as error:
                logger.warning("journal_away", task_id=self.task.task_id, reason=error.reason)
            await asyncio.sleep(WRITE_AGAIN_SECONDS)

    def tell(self, event: TaskEvent) -> None:
        """Tell the readers an event of the step being done."""
        self.live.tell(self._next, event)


def refused(call: ToolCall, reason: str, text: str) -> ToolResult:
    """Return the result of a call that was not made, as tools report their errors."""
    content = orjson.dumps({"error": text[:MAX_ERROR_CHARACTERS], "reason": reason}).decode()
    return ToolResult(call.id, call.name, content, is_error=True)
