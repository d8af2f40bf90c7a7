"""`meshwright tenants create|update|suspend|resume`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright_cli.commands.events.printing import ask, show_json
from meshwright_cli.commands.tenants import limits, views
from meshwright_cli.commands.tenants.limits import (
    CostOption,
    DocumentsOption,
    ModelsOption,
    SessionsOption,
    StorageOption,
    TokensOption,
    TurnsOption,
)
from meshwright_cli.commands.tenants.options import (
    PLANS,
    JsonOption,
    PlanName,
    TenantArgument,
    YesOption,
    plan_name,
    state_name,
)
from meshwright_cli.exits import refused
from meshwright_cli.operator_calls import Operator, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption


def create(
    slug: Annotated[
        str, typer.Argument(help="1 to 64 of a to z, digits and -.", show_default=False)
    ],
    plan: Annotated[PlanName, typer.Option(help="Its plan.")] = PlanName.STARTER,
    name: Annotated[str, typer.Option(help="Name for people.")] = "",
    owner: Annotated[str, typer.Option(help="Name of its first user, who owns it.")] = "admin",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Create a tenant with its owner, and print the owner's API key: it is shown this once."""

    async def make(operator: Operator) -> pb.CreateTenantResponse:
        tenant = tenant_pb2.Tenant(slug=slug, display_name=name, plan=PLANS[plan])
        with operator.everywhere():
            return await operator.directory.CreateTenant(
                pb.CreateTenantRequest(tenant=tenant, owner_name=owner)
            )

    made = operate(data, make)
    if as_json:
        content = views.tenant_content(made.tenant)
        show_json({**content, "owner_id": made.owner.user_id, "api_key": made.api_key})
        return
    sys.stdout.write(f"tenant {made.tenant.tenant_id} key={made.api_key}\n")


def update(  # noqa: PLR0913, PLR0917 - one argument for each option
    tenant: TenantArgument,
    plan: Annotated[PlanName | None, typer.Option(help="Its plan.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="Name for people.", show_default=False)] = None,
    sessions: SessionsOption = "",
    tokens_per_day: TokensOption = "",
    documents: DocumentsOption = "",
    storage_bytes: StorageOption = "",
    concurrent_turns: TurnsOption = "",
    cost_micro_usd_per_day: CostOption = "",
    models: ModelsOption = "",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Change a tenant's plan, its name, or the limits agreed with it in place of the plan's."""
    quota, paths = limits.agreed(
        {
            "max_sessions": sessions,
            "max_tokens_per_day": tokens_per_day,
            "max_documents": documents,
            "max_storage_bytes": storage_bytes,
            "max_concurrent_turns": concurrent_turns,
            "max_cost_micro_usd_per_day": cost_micro_usd_per_day,
        },
        models,
    )
    change = tenant_pb2.Tenant(agreed_quota=quota)
    if plan is not None:
        paths.append("plan")
        change.plan = PLANS[plan]
    if name is not None:
        paths.append("display_name")
        change.display_name = name
    if not paths:
        raise refused("nothing to change: give --plan, --name or one of the limits")
    _show(_change(data, tenant, change, paths), as_json=as_json)


def suspend(
    tenant: TenantArgument,
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Refuse a tenant's calls within 5 s and end its streams within 30 s. Nothing is lost."""
    if ask(f"Suspend the tenant {tenant}, so that nobody of it can call?", yes):
        change = tenant_pb2.Tenant(suspended=True)
        _show(_change(data, tenant, change, ["suspended"]), as_json=as_json)


def resume(
    tenant: TenantArgument, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Let a suspended tenant call again."""
    change = tenant_pb2.Tenant(suspended=False)
    _show(_change(data, tenant, change, ["suspended"]), as_json=as_json)


def _change(
    data: Path, name: str, change: tenant_pb2.Tenant, paths: list[str]
) -> tenant_pb2.Tenant:
    async def make(operator: Operator) -> tenant_pb2.Tenant:
        change.tenant_id = (await operator.tenant(name)).tenant_id
        request = pb.UpdateTenantRequest(tenant=change, update_mask=limits.mask(paths))
        with operator.everywhere():
            return (await operator.directory.UpdateTenant(request)).tenant

    return operate(data, make)


def _show(tenant: tenant_pb2.Tenant, *, as_json: bool) -> None:
    if as_json:
        show_json(views.tenant_content(tenant))
        return
    sys.stdout.write(f"{tenant.slug} {plan_name(tenant.plan)} {state_name(tenant.state)}\n")
