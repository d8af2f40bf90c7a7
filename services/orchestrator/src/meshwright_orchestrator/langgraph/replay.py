"""Which outcomes of the journal a graph's nodes have asked for, also when a node runs twice.

A node that was interrupted runs again from its beginning when it is resumed, as LangGraph has it.
The calls that it makes again are answered by what they came to before: they are found by what was
asked, in the order in which they were journaled.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from langchain_core.runnables.config import var_child_runnable_config

from meshwright_orchestrator.domain.conversation import ToolCall
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Outcome,
    Recalled,
    Step,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.waiting import Asked, Question

NAMESPACE: Final = "checkpoint_ns"
"""Names the run of a node in its configuration; the same one when the node is resumed."""

Call = TypeVar("Call", ModelAnswered, ToolsAnswered, Recalled)


@dataclass(slots=True, eq=False)
class _Entry:
    """`round`: how often the graph had been resumed when the node `namespace` asked for it."""

    place: int
    outcome: Outcome
    namespace: str = ""
    round: int = 0


class Replay:
    """The outcomes of one task: those that wait to be asked for, and those that nodes have."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._waiting = [_Entry(place, step.outcome) for place, step in enumerate(steps)]
        self._had: list[_Entry] = []
        self._round = 0

    @property
    def journaled(self) -> int:
        """How many outcomes there are."""
        return len(self._waiting) + len(self._had)

    @property
    def used_steps(self) -> int:
        """How many calls of models and tools the nodes have made."""
        return sum(isinstance(e.outcome, ModelAnswered | ToolsAnswered) for e in self._had)

    @property
    def texts(self) -> list[str]:
        """What models said so far, without hidden thoughts, as it was told."""
        entries = sorted(self._had, key=lambda entry: entry.place)
        answers = [entry.outcome for entry in entries if isinstance(entry.outcome, ModelAnswered)]
        return [answer.text for answer in answers if not answer.hidden]

    @property
    def open_calls(self) -> list[ToolCall]:
        """Calls that models asked for and nobody made yet."""
        asked: dict[str, ToolCall] = {}
        made: set[str] = set()
        for entry in self._had:
            match entry.outcome:
                case ModelAnswered(tool_calls=calls):
                    asked.update((call.id, call) for call in calls)
                case ToolsAnswered(calls=calls):
                    made.update(call.id for call in calls)
                case _:
                    pass
        return [call for call_id, call in asked.items() if call_id not in made]

    def resumed(self) -> None:
        """Begin a round: nodes that were interrupted run again."""
        self._round += 1

    def enter(self) -> str:
        """Look which node is about to call, and give back what it asked for in earlier rounds.

        Returns its namespace, for `add`. Calls from outside of nodes count as those of one node.
        """
        config = var_child_runnable_config.get() or {}
        namespace = str(config.get("configurable", {}).get(NAMESPACE, ""))
        again = [e for e in self._had if e.namespace == namespace and e.round < self._round]
        if again:
            self._had = [entry for entry in self._had if entry not in again]
            self._waiting = sorted([*again, *self._waiting], key=lambda entry: entry.place)
        return namespace

    def take(self, kind: type[Call], digests: Collection[str], namespace: str) -> Call | None:
        """Return the first journaled outcome of such a call, once; None: it was not made yet."""
        for entry in self._waiting:
            if isinstance(entry.outcome, kind) and entry.outcome.digest in digests:
                self._moved(entry, namespace)
                return entry.outcome
        return None

    def take_answers(self, questions: tuple[Question, ...]) -> Asked | None:
        """Return the journaled answers to these questions, once; None: there are none yet."""
        for entry in self._waiting:
            if isinstance(entry.outcome, Asked) and entry.outcome.questions == questions:
                self._moved(entry, NAMESPACE)
                return entry.outcome
        return None

    def _moved(self, entry: _Entry, namespace: str) -> None:
        self._waiting.remove(entry)
        entry.namespace, entry.round = namespace, self._round
        self._had.append(entry)

    def add(self, outcome: Outcome, namespace: str = NAMESPACE) -> None:
        """Take in an outcome that was just journaled."""
        self._had.append(_Entry(self.journaled, outcome, namespace, self._round))
