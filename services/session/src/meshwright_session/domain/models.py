"""Sessions, their messages and their contexts, as the rules see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from meshwright_common.context import Principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.errors import NotAUser

Role = Literal["system", "user", "assistant", "tool"]
JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose sessions a call is about: nobody else's exist for it."""

    tenant_id: str
    user_id: str

    @classmethod
    def of(cls, principal: Principal) -> "Owner":
        """Return the owner a caller acts as. Raises: NotAUser for services."""
        if principal.kind != "user":
            raise NotAUser
        return cls(principal.tenant_id, parse_id(principal.subject, "subject"))


@dataclass(frozen=True, slots=True)
class Request:
    """What makes a mutation repeatable: who asks, the id they chose, the digest of what they ask.

    The same id of another subject, or for another kind of mutation, is another request.
    """

    subject: str
    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class SessionDraft:
    """What a caller may say about a new session."""

    title: str = ""
    agent: str = ""
    knowledge_base_ids: tuple[str, ...] = ()
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class SessionChange:
    """New values of some fields; None leaves a field as it is."""

    title: str | None = None
    agent: str | None = None
    knowledge_base_ids: tuple[str, ...] | None = None
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation. `revision` counts changes by its owner; messages do not move it."""

    session_id: str
    user_id: str
    title: str
    agent: str
    knowledge_base_ids: tuple[str, ...]
    metadata: JsonObject
    message_count: int
    context_version: int
    revision: int
    archived: bool
    create_time: datetime
    update_time: datetime
    parent_session_id: str | None = None
    branch_sequence: int = 0
    summarised_sequence: int = 0


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message to store. `content` is the message in its wire form: no rule here looks inside.

    `text` is what it is found by: empty for what nobody looks for.
    """

    role: Role
    content: bytes
    text: str = ""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A draft with the id under which it will be stored."""

    message_id: str
    role: Role
    content: bytes
    text: str = ""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as stored. `turn_id` is None when a client appended it outside any turn."""

    message_id: str
    session_id: str
    sequence: int
    turn_id: str | None
    content: bytes
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ContextChanges:
    """What a turn does to the context's data: keys to write and keys to remove."""

    written: JsonObject
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """What a committed turn is known by: the answer's message and the context's new version.

    `summary_due`: enough turns wait to be summarised.
    """

    message_id: str
    context_version: int
    summary_due: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What an agent remembers. Version 0 with empty data and no time before the first write."""

    session_id: str
    version: int
    data: JsonObject
    update_time: datetime | None
