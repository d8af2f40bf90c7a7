"""Tenants, users, API keys and what a credential stands for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Plan = Literal["starter", "professional", "enterprise"]
TenantState = Literal["active", "suspended", "deleting"]
"""What members may do: call; nothing for now; nothing more, for what they have is being erased."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """Limits agreed with a tenant, by the names of `plans.Limits`. None: the plan's; 0: none."""

    sessions: int | None = None
    tokens_per_day: int | None = None
    documents: int | None = None
    storage_bytes: int | None = None
    concurrent_turns: int | None = None
    cost_micro_usd_per_day: int | None = None
    models: tuple[str, ...] | None = None


NOTHING_AGREED: Final = Agreed()


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant to be made."""

    tenant_id: str
    slug: str
    display_name: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer."""

    tenant_id: str
    slug: str
    display_name: str
    plan: Plan
    state: TenantState
    agreed: Agreed
    create_time: datetime


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What to change of a tenant; None leaves a part as it is.

    `agreed` replaces the agreed limits that `agreed_fields` name.
    """

    plan: Plan | None = None
    suspended: bool | None = None
    display_name: str | None = None
    agreed: Agreed = NOTHING_AGREED
    agreed_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserChange:
    """What to change of a user; None leaves a part as it is."""

    name: str | None = None
    email: str | None = None
    roles: tuple[str, ...] | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be made."""

    user_id: str
    name: str
    email: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A person or program of a tenant."""

    user_id: str
    name: str
    email: str
    roles: tuple[str, ...]
    disabled: bool
    create_time: datetime


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key to be stored: its digest, never its text. No permissions: all of the user's."""

    api_key_id: str
    user_id: str
    label: str
    prefix: str
    sha256: bytes
    permissions: tuple[str, ...]
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key."""

    api_key_id: str
    user_id: str
    label: str
    prefix: str
    permissions: tuple[str, ...]
    create_time: datetime
    expire_time: datetime | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class Credential:
    """What the directory knows about a key. `usable`: neither revoked, expired nor disabled."""

    tenant_id: str
    api_key_id: str
    user_id: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    expire_time: datetime | None
    usable: bool
    suspended: bool
