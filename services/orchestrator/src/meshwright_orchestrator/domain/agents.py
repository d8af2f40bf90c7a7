"""What an agent is: data that a decider reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwright_orchestrator.domain.conversation import JsonObject, ToolUse
from meshwright_orchestrator.domain.errors import AgentNotFound

SUMMARY: Final = "summary"
"""Summarises turns of a session. chat submits its tasks; it is listed to nobody."""
UNANNOUNCED: Final = frozenset({SUMMARY})
"""Agents whose tasks nobody handed in by hand: their ends are no notification."""
DELEGATE: Final = "delegate"
"""Name of the tool by which a supervisor hands work to its agents."""
BUILTIN_VERSION: Final = 0
"""Version of an agent that comes with the platform, in the limits of its tasks. Those that a tenant
defined count from 1."""


class AgentType(StrEnum):
    """How an agent works, as orchestrator/v1/agent.proto names it."""

    CHAT = "chat"
    RAG = "rag"
    TOOL_CALL = "tool_call"
    PLAN_EXECUTE = "plan_execute"
    SUPERVISOR = "supervisor"
    GRAPH = "graph"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent as data: one that is built in, or a version of one that a tenant defined.

    `recalls`: it searches the documents before the first model call; `remembers`: it asks what is
    remembered of the user. `first_tool_use` holds for the first model call, AUTO for later ones.
    The fields from `version` on are those of AgentDefinition; their defaults bind to nothing.
    """

    name: str
    description: str
    type: AgentType
    instructions: str
    recalls: bool = False
    remembers: bool = False
    first_tool_use: ToolUse = ToolUse.AUTO
    version: int = BUILTIN_VERSION
    tools: tuple[str, ...] | None = None
    """Names of the tools it may call. None: all that the owner may use."""
    approval_tools: tuple[str, ...] = ()
    """Those of them whose calls wait for a person, whatever the tenant's policy says."""
    agents: tuple[str, ...] = ()
    """Agents that a supervisor may hand work to."""
    knowledge_base_ids: tuple[str, ...] = ()
    """Searched instead of those of the task. Empty: those of the task."""
    model: str = ""
    """Empty: the default model. A task's own goes first."""
    fallback_models: tuple[str, ...] = ()
    """Tried in order when the first cannot answer."""
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str = ""
    max_history_messages: int = 0
    """Newest messages of the conversation that a model gets to see. 0: as many as fit."""
    memory_top_k: int | None = None
    """Memories that it is told (`recall_top_k` on the wire). None: as many as the platform says."""
    summary_turns: int | None = None
    """Turns of a session after which they are summarised; 0: never. None: the platform's number."""
    learns: bool = True
    """Whether summaries of its turns may keep facts about the user (`remembers` on the wire)."""
    input_guards: tuple[str, ...] = ()
    output_guards: tuple[str, ...] = ()
    output_schema: JsonObject | None = None
    """JSON Schema that the answer must fit. None: it is text."""
    max_steps: int = 0
    """0: as the platform says. A task may ask for fewer."""
    max_seconds: float = 0
    """0: as the platform and the task say. A task may ask for less."""

    def may_call(self, tool: str) -> bool:
        """Return whether the tool is one of those that it is given."""
        return self.tools is None or tool in self.tools


class BuiltinAgents:
    """The agents that come with the platform, by name."""

    def __init__(self, specs: Iterable[AgentSpec]) -> None:
        self._specs: Mapping[str, AgentSpec] = {spec.name: spec for spec in specs}

    def find(self, name: str) -> AgentSpec:
        """Return the agent. Raises: AgentNotFound."""
        spec = self._specs.get(name)
        if spec is None:
            raise AgentNotFound(agent=name)
        return spec

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def all(self) -> Sequence[AgentSpec]:
        """Return all of them by name."""
        return [self._specs[name] for name in sorted(self._specs)]
