"""What one attempt of a task works with: peers, journal and readers, behind one lease.

Each call to a peer is preceded by a look at the lease, each step's outcome is journaled before
the next one begins, and each event reaches the readers without waiting for any of it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
import structlog

from meshwright_common.errors import (
    ServiceError,
)
from meshwright_orchestrator.domain import waiting_steps
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.approvals import OFFER, may_ask
from meshwright_orchestrator.domain.attempt import Attempt
from meshwright_orchestrator.domain.conversation import (
    MAX_CALLS_OF_MESSAGE,
    JsonObject,
    Message,
    ToolCall,
    ToolOffer,
    ToolUse,
)
from meshwright_orchestrator.domain.decider import PlannedCall, Recall
from meshwright_orchestrator.domain.errors import BudgetExceeded
from meshwright_orchestrator.domain.events import (
    SEPARATOR,
    Child,
    Chunk,
    Started,
    retold,
)
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Recalled,
    Step,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.lease import Lease
from meshwright_orchestrator.domain.memory_ports import Memory
from meshwright_orchestrator.domain.models import Task
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
from meshwright_orchestrator.domain.retries import is_away, is_handed_in
from meshwright_orchestrator.domain.task_budget import used_up
from meshwright_orchestrator.domain.waiting import (
    Asked,
    ChildSpec,
    Delegated,
    Question,
    Slept,
)
from meshwright_orchestrator.domain.waits import Waits

logger = structlog.get_logger(__name__)

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


class Workbench(Attempt):
    """An attempt with all that it calls. `away_seconds`: so long a step of a task that was handed
    in waits for tools that are away, before the model is told.
    """

    def __init__(
        self,
        task: Task,
        steps: Sequence[Step],
        *,
        tasks: Tasks,
        waits: Waits,
        peers: Peers,
        lease: Lease,
        away_seconds: float = 0.0,
    ) -> None:
        super().__init__(task, steps, tasks=tasks, lease=lease)
        self._away_seconds = away_seconds
        self._waits = waits
        self._peers = peers
        self._agent: AgentSpec | None = None
        self._offered: tuple[ToolOffer, ...] | None = None
        self.recall_was_slow = False

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
            offers: tuple[ToolOffer, ...] = ()
            try:
                offers = await self._peers.tools.offered()
            except ServiceError as error:
                logger.warning("tools_away", task_id=self.task.task_id, reason=error.reason)
            own = tuple(offer for offer in offers if agent is None or agent.may_call(offer.name))
            self._offered = (*own, OFFER) if agent is not None and may_ask(agent) else own
        return self._offered

    async def generate(  # noqa: PLR0913 - one argument for each part of a call
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
        await self.check_budget()
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
        if calls == answer.tool_calls and not (hidden or silent):
            return answer
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
        Raises: LeaseLost; BudgetExceeded; Unavailable when nobody waits for the task and the tools
        may be back soon.
        """
        await self.check_budget()
        self.lease.check()
        key, step = self._key(), self._next
        calls = tuple(plan.call for plan in planned)
        for call in calls:
            self.live.tell(step, call)
        if len(planned) == 1:
            results = [await self._use(key, 0, planned[0])]
        else:
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(self._use(key, index, plan))
                    for index, plan in enumerate(planned)
                ]
            results = [task.result() for task in running]
        for result in results:
            if isinstance(result, ServiceError):
                # Done again whole: calls that were made have their outcomes recorded.
                raise result
        return ToolsAnswered(calls, tuple(one for one in results if isinstance(one, ToolResult)))

    async def _use(self, key: StepKey, index: int, plan: PlannedCall) -> ToolResult | ServiceError:
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
                if self._may_wait(error):
                    return error
                result = refused(call, error.reason, error.message)
        self.live.tell(key.step, result)
        return result

    def _may_wait(self, error: ServiceError) -> bool:
        patient = is_handed_in(self.task) and self.task.away_seconds < self._away_seconds
        return patient and is_away(error)

    # --- waiting ---------------------------------------------------------------------------------

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

    async def check_budget(self) -> None:
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


def refused(call: ToolCall, reason: str, text: str) -> ToolResult:
    """Return the result of a call that was not made, as tools report their errors."""
    content = orjson.dumps({"error": text[:MAX_ERROR_CHARACTERS], "reason": reason}).decode()
    return ToolResult(call.id, call.name, content, is_error=True)
