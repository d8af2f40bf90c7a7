"""Agents that tenants define: what a version says, and how new tasks are shared among versions."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_orchestrator.domain.agents import AgentSpec, AgentType
from meshwright_orchestrator.domain.conversation import JsonObject, ToolUse

WHOLE: Final = 100
DEFINABLE: Final = frozenset(
    {
        AgentType.CHAT,
        AgentType.RAG,
        AgentType.TOOL_CALL,
        AgentType.PLAN_EXECUTE,
        AgentType.SUPERVISOR,
    }
)
_HASHED_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Definition:
    """What a version is: AgentDefinition of orchestrator/v1/agent.proto, as it was written.

    None and empty values mean what the wire says they mean; `memory_top_k` is its `recall_top_k`,
    `max_seconds` its `max_duration`.
    """

    type: AgentType
    instructions: str = ""
    tools: tuple[str, ...] = ()
    approval_tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    knowledge_base_ids: tuple[str, ...] = ()
    model: str = ""
    fallback_models: tuple[str, ...] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str = ""
    max_history_messages: int = 0
    memory_top_k: int | None = None
    summary_turns: int | None = None
    remembers: bool = False
    input_guards: tuple[str, ...] = ()
    output_guards: tuple[str, ...] = ()
    output_schema: JsonObject | None = None
    max_steps: int = 0
    max_seconds: float = 0


DEFAULT_HISTORY_MESSAGES: Final = 100


def agent_of(name: str, version: int, definition: Definition, instructions: str) -> AgentSpec:
    """Return what a decider reads; `instructions` are the type's own, for when it has none."""
    first = ToolUse.REQUIRED if definition.type is AgentType.TOOL_CALL else ToolUse.AUTO
    return AgentSpec(
        name=name,
        description="",
        type=definition.type,
        instructions=definition.instructions or instructions,
        recalls=definition.type is AgentType.RAG,
        remembers=True,
        first_tool_use=first,
        version=version,
        tools=definition.tools,
        approval_tools=definition.approval_tools,
        agents=definition.agents,
        knowledge_base_ids=definition.knowledge_base_ids,
        model=definition.model,
        fallback_models=definition.fallback_models,
        temperature=definition.temperature,
        max_output_tokens=definition.max_output_tokens,
        reasoning_effort=definition.reasoning_effort,
        max_history_messages=definition.max_history_messages or DEFAULT_HISTORY_MESSAGES,
        memory_top_k=definition.memory_top_k,
        summary_turns=definition.summary_turns,
        learns=definition.remembers,
        input_guards=definition.input_guards,
        output_guards=definition.output_guards,
        output_schema=definition.output_schema,
        max_steps=definition.max_steps,
        max_seconds=definition.max_seconds,
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """Who gets new tasks: percent by version, which sum to 100. Versions without any are left out.

    Empty: there is no version yet.
    """

    percent: Mapping[int, int]

    def of(self, version: int) -> int:
        """Return the share of a version."""
        return self.percent.get(version, 0)

    @property
    def newest(self) -> int:
        """The newest version in use."""
        return max(self.percent, default=0)

    def with_share(self, version: int, percent: int) -> "Shares | None":
        """Return the shares when `version` has `percent` and the others keep the rest in their old
        proportion; None when no other has any to keep.

        What is left by rounding down goes to the largest remainders, newer versions first.
        """
        others = {one: share for one, share in self.percent.items() if one != version}
        if not others:
            return Shares({version: WHOLE}) if percent == WHOLE or not self.percent else None
        rest, whole = WHOLE - percent, sum(others.values())
        kept = {one: rest * share // whole for one, share in others.items()}
        by_remainder = sorted(
            others, key=lambda one: (rest * others[one] % whole, one), reverse=True
        )
        for one in by_remainder[: rest - sum(kept.values())]:
            kept[one] += 1
        found = {**kept, version: percent}
        return Shares({one: found[one] for one in sorted(found) if found[one]})

    def pick(self, name: str, key: str) -> int:
        """Return the version for a session or a task, the same one each time.

        Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash
        tables", 2005): a new version takes its share of the keys, and none moves between versions
        that keep their proportion.
        """
        return max(self.percent, key=lambda one: (self._score(name, key, one), one))

    def _score(self, name: str, key: str, version: int) -> float:
        text = f"{name}\n{version}\n{key}".encode()
        drawn = int.from_bytes(hashlib.sha256(text).digest()[: _HASHED_BITS // 8])
        # In (0, 1), never on its ends.
        uniform = (drawn + 0.5) / 2**_HASHED_BITS
        return -self.percent[version] / math.log(min(uniform, 1 - 2**-53))


NO_SHARES: Final = Shares({})


def only(version: int) -> Shares:
    """Return the shares that give a version everything."""
    return Shares({version: WHOLE})


@dataclass(frozen=True, slots=True)
class AgentHead:
    """A defined agent. `newest` version, used or not; `type` of the newest one in use."""

    name: str
    description: str
    type: AgentType
    newest: int
    shares: Shares
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """A version, with its share as of the reading."""

    agent: str
    version: int
    definition: Definition
    share: int
    comment: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a caller wants an agent to be. `share` None: all; `expected` None: not checked."""

    name: str
    description: str
    definition: Definition
    comment: str = ""
    share: int | None = None
    expected: int | None = None
    request_id: str = ""
