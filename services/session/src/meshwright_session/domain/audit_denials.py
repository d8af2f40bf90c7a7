"""Refused logins and denied calls, as whoever saw them counted them together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

PLATFORM: Final = "00000000-0000-0000-0000-000000000001"
"""Whose log has what belongs to no tenant, such as logins with a key that nobody has. Not zero: an
event with that names no tenant at all."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Denials of one kind from one source within about a minute. Unknown texts are empty."""

    tenant_id: str
    actor: str
    action: str
    resource: str
    reason: str
    address: str
    count: int
    first_time: datetime
    last_time: datetime


class DenialLog(Protocol):
    """Where denials are told to the audit log."""

    async def add(self, request_id: str, denials: Sequence[Denial]) -> None:
        """Tell each denial to its tenant's log; told before by the same request, nothing is added.

        Those of tenants that do not exist go to the platform's log.
        """
        ...
