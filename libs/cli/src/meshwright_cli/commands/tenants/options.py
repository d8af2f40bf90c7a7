"""Options and arguments that commands about tenants and users share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import typer

from meshwright.session.v1 import tenant_pb2

TenantArgument: TypeAlias = Annotated[
    str, typer.Argument(help="The tenant's slug or id.", show_default=False)
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

STATES: Final = {
    tenant_pb2.TENANT_STATE_ACTIVE: "active",
    tenant_pb2.TENANT_STATE_SUSPENDED: "suspended",
    tenant_pb2.TENANT_STATE_DELETING: "deleting",
}


class PlanName(StrEnum):
    """The plans."""

    STARTER = "starter"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"


PLANS: Final = {
    PlanName.STARTER: tenant_pb2.PLAN_STARTER,
    PlanName.PROFESSIONAL: tenant_pb2.PLAN_PROFESSIONAL,
    PlanName.ENTERPRISE: tenant_pb2.PLAN_ENTERPRISE,
}
_NAMES: Final = {number: name.value for name, number in PLANS.items()}


def plan_name(plan: int) -> str:
    """Return a plan as people write it."""
    return _NAMES.get(plan, "unknown")  # type: ignore[call-overload,no-any-return]


def state_name(state: int) -> str:
    """Return a state as people write it."""
    return STATES.get(state, "unknown")  # type: ignore[call-overload,no-any-return]
