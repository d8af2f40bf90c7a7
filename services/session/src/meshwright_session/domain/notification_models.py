"""Notifications: what is told, and who reads it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from meshwright_common.context import Principal
from meshwright_session.domain.models import JsonObject

ADMINISTER: Final = "tenant:admin"
ADMINISTRATORS: Final = ""
"""In place of a user id: the tenant's administrators together."""


@dataclass(frozen=True, slots=True)
class NewNotification:
    """What an event tells. `notification_id` is the event's id, `time` when it happened.

    `trace`: the event's, as `kept_trace.joined`; "" when it is part of none.
    """

    tenant_id: str
    notification_id: str
    time: datetime
    user_id: str
    kind: str
    title: str
    resource: str
    details: JsonObject
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """What was told, as one reader sees it: `read_time` is None until that one has read it.

    `sequence` grows within the tenant, in the order in which notifications can be seen.
    """

    sequence: int
    notification_id: str
    user_id: str
    kind: str
    title: str
    resource: str
    details: JsonObject
    create_time: datetime
    read_time: datetime | None

    @property
    def for_administrators(self) -> bool:
        """Whether it was told to nobody in particular."""
        return self.user_id == ADMINISTRATORS


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads. `addressed_as` are the user ids whose notifications are this one's to read."""

    tenant_id: str
    user_id: str
    addressed_as: tuple[str, ...]

    @classmethod
    def of(cls, caller: Principal) -> Self:
        """Return the caller as a reader."""
        shared = (ADMINISTRATORS,) if caller.has(ADMINISTER) else ()
        return cls(caller.tenant_id, caller.subject, (caller.subject, *shared))
