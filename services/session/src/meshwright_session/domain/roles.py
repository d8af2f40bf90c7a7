"""Which role holds which permissions: the whole table, in one place.

A permission that an RPC declares and no role here holds can be used by services only.
"""

from collections.abc import Iterable
from typing import Final

READ: Final = frozenset(
    {
        "agent:read",
        "chat:read",
        "kb:read",
        "mcp:read",
        "memory:read",
        "model:read",
        "session:read",
        "skill:read",
        "task:read",
        "tenant:read",
        "tool:read",
        "usage:read",
        "workflow:read",
    }
)
USE: Final = frozenset(
    {
        "agent:execute",
        "chat:write",
        "kb:write",
        "memory:write",
        "model:invoke",
        "session:delete",
        "session:write",
        "tool:execute",
        "workflow:execute",
    }
)
OVERSEE: Final = frozenset({"audit:read", "usage:read_all"})
ADMINISTER: Final = frozenset(
    {
        "agent:join",
        "agent:write",
        "guard:read",
        "guard:write",
        "mcp:schedule",
        "route:read",
        "route:write",
        "skill:write",
        "tenant:admin",
        "workflow:write",
    }
)
"""What changes things for everybody in the tenant."""
OWN: Final = frozenset({"tenant:delete", "tenant:own"})
"""Held by owners alone, so that nobody else can make an owner."""

OWNER: Final = "owner"

PERMISSIONS_BY_ROLE: Final = {
    OWNER: READ | USE | OVERSEE | ADMINISTER | OWN,
    "admin": READ | USE | OVERSEE | ADMINISTER,
    "member": READ | USE,
    "viewer": READ,
    "auditor": OVERSEE | {"tenant:read", "usage:read"},
}


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """Return all that the roles hold together. A role this version does not know holds nothing."""
    return frozenset().union(*(PERMISSIONS_BY_ROLE.get(role, frozenset()) for role in roles))
