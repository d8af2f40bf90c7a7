"""The stream of one reader: every event once, numbered, whatever process it comes from.

Positions lead a reader back to the last checkpoint it saw: step · 1 000 000 + the number of events
since that step's checkpoint. How texts are cut into events differs from reader to reader, so
within a step a position only orders.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from meshwright_orchestrator.domain.conversation import ToolCall
from meshwright_orchestrator.domain.events import (
    Checkpoint,
    Child,
    Chunk,
    Interrupted,
    Started,
    TaskEvent,
    Told,
    retold,
)
from meshwright_orchestrator.domain.journal import Recalled, Step, ToolResult
from meshwright_orchestrator.domain.models import Failure, Result
from meshwright_orchestrator.domain.plan import Plan

POSITIONS_OF_STEP: Final = 1_000_000
END: Final = POSITIONS_OF_STEP - 1
"""Position of a result or failure after its last step."""


def step_of(position: int) -> tuple[int, bool]:
    """Return the last step whose checkpoint a reader saw, and whether it saw the end."""
    step, rest = divmod(position, POSITIONS_OF_STEP)
    return step, rest == END


class Teller:
    """Knows what its reader was told. `step`: the last one told to its checkpoint.

    A reader that comes back after `told` steps is told the later ones, after a `Started`: what it
    knows of a step without a checkpoint is withdrawn by that, and told again.
    """

    def __init__(self, task_id: str, agent: str, told: Sequence[Step] = ()) -> None:
        self._task_id = task_id
        self._agent = agent
        self._attempt = 0
        self._told = 0
        self.step = 0
        self._answer_characters = 0
        for step in told:
            self.step = step.number
            _, self._answer_characters = retold(step, self._answer_characters)
        self._begin_step()

    def _begin_step(self) -> None:
        self._open_text = 0
        self._open_reasoning = 0
        self._open_events: set[tuple[str, str]] = set()

    def began(self, attempt: int, resumed_steps: int) -> Iterator[Told]:
        """Tell that an attempt began, if the reader does not know it.

        What it was told of a step without a checkpoint is withdrawn by that.
        """
        if attempt > self._attempt:
            self._attempt = attempt
            self._told = 0
            self._begin_step()
            yield self.tell(Started(self._agent, resumed_steps))

    def tell(self, event: TaskEvent) -> Told:
        """Number an event that the reader was not told before."""
        self._told = min(self._told + 1, END - 1)
        match event:
            case Chunk(text, reasoning):
                self._open_text += len(text)
                self._open_reasoning += len(reasoning)
            case Checkpoint(step, answer_characters):
                self.step = step
                self._answer_characters = answer_characters
                self._told = 0
                self._begin_step()
            case Started():
                # Chunks of the open step are withdrawn; what else was told of it stays.
                self._open_text = self._open_reasoning = 0
            case Result() | Failure():
                self._told = END
            case _:
                self._open_events.add(_name(event))
        sequence = self.step * POSITIONS_OF_STEP + self._told
        return Told(self._task_id, sequence, self._attempt, event)

    def tell_once(self, event: TaskEvent) -> Iterator[Told]:
        """Tell an event of the open step, if its reader does not know it."""
        if _name(event) not in self._open_events:
            yield self.tell(event)

    def journaled(self, steps: Sequence[Step]) -> Iterator[Told]:
        """Tell steps from the journal, without what was told while they were done."""
        for step in steps:
            events, _ = retold(step, self._answer_characters)
            # Text told so far is none of a step that has none: it is that of the next one, when
            # the two are journaled together.
            has_text = any(isinstance(event, Chunk) for event in events)
            open_text, open_reasoning = self._open_text, self._open_reasoning
            for event in events:
                if isinstance(event, Chunk):
                    rest = Chunk(
                        event.text[self._open_text :], event.reasoning[self._open_reasoning :]
                    )
                    if rest.text or rest.reasoning:
                        yield self.tell(rest)
                elif _name(event) not in self._open_events:
                    yield self.tell(event)
            if not has_text:
                self._open_text, self._open_reasoning = open_text, open_reasoning


def _name(event: TaskEvent) -> tuple[str, str]:
    match event:
        case ToolCall(call_id) | ToolResult(call_id):
            return type(event).__name__, call_id
        case Recalled():
            return "Recalled", ""
        case Interrupted(interrupt_id):
            return "Interrupted", interrupt_id
        case Child(task_id, _, state):
            return "Child", f"{task_id} {state}"
        case Plan() as plan:
            return "Plan", repr(plan)
        case _:
            return type(event).__name__, str(id(event))
