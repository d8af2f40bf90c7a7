"""`meshwright tenants list|show|quota|usage`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2, usage_service_pb2
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceStub
from meshwright.types.v1 import page_pb2
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.commands.tenants import views
from meshwright_cli.commands.tenants.options import JsonOption, TenantArgument
from meshwright_cli.operator_calls import Operator, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption

PAGE_SIZE = 200


def list_tenants(data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """List all tenants by slug."""
    found = operate(data, _all_tenants)
    if as_json:
        show_json([views.tenant_content(one) for one in found])
        return
    columns = ("slug", "plan", "state", "tenant", "created", "name")
    show_table(*columns, rows=[views.tenant_row(one) for one in found])


def show(
    tenant: TenantArgument, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Show a tenant with the limits agreed with it."""
    content = views.tenant_content(operate(data, lambda operator: operator.tenant(tenant)))
    if as_json:
        show_json(content)
        return
    show_table("field", "value", rows=[(name, _text(value)) for name, value in content.items()])


def quota(
    tenant: TenantArgument, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Show what a tenant may use, and what it uses."""

    async def ask(operator: Operator) -> pb.GetQuotaResponse:
        found = await operator.tenant(tenant)
        with operator.inside(found.tenant_id):
            return await operator.directory.GetQuota(pb.GetQuotaRequest())

    answer = operate(data, ask)
    if as_json:
        show_json(views.quota_content(answer))
        return
    show_table("quota", "used", "limit", "share", rows=views.quota_rows(answer))
    models = ", ".join(answer.quota.allowed_models) or "all"
    show_table(rows=[(f"models: {models}",)])


def usage(
    tenant: TenantArgument,
    days: Annotated[int, typer.Option(min=1, max=366, help="Until now.")] = 30,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Show what a tenant's model calls came to, by day and model."""
    rows = operate(data, lambda operator: _usage(operator, tenant, days))
    if as_json:
        show_json([_usage_content(row) for row in rows])
        return
    columns = ("day", "model", "calls", "prompt", "completion", "cost (USD)")
    show_table(
        *columns,
        rows=[
            (
                row.day,
                row.model,
                str(row.call_count),
                str(row.usage.prompt_tokens),
                str(row.usage.completion_tokens),
                f"{row.usage.cost_micro_usd / 1_000_000:.6f}",
            )
            for row in rows
        ],
    )


async def _all_tenants(operator: Operator) -> list[tenant_pb2.Tenant]:
    found: list[tenant_pb2.Tenant] = []
    token = ""
    with operator.everywhere():
        while True:
            page = page_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            answer = await operator.directory.ListTenants(pb.ListTenantsRequest(page=page))
            found += answer.tenants
            token = answer.page.next_page_token
            if not token:
                return found


async def _usage(operator: Operator, name: str, days: int) -> list[usage_service_pb2.UsageSum]:
    tenant = await operator.tenant(name)
    stub = UsageServiceStub(operator.channels.open("session"))
    request = usage_service_pb2.QueryUsageRequest(
        group_by=[
            usage_service_pb2.USAGE_DIMENSION_DAY,
            usage_service_pb2.USAGE_DIMENSION_MODEL,
        ]
    )
    request.start_time.FromDatetime(datetime.now(UTC) - timedelta(days=days))
    found: list[usage_service_pb2.UsageSum] = []
    with operator.inside(tenant.tenant_id):
        while True:
            answer = await stub.QueryUsage(request)
            found += answer.sums
            request.page.page_token = answer.page.next_page_token
            if not request.page.page_token:
                return found


def _usage_content(row: usage_service_pb2.UsageSum) -> dict[str, object]:
    return {
        "day": row.day,
        "model": row.model,
        "call_count": row.call_count,
        "prompt_tokens": row.usage.prompt_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "cached_tokens": row.usage.cached_tokens,
        "cost_micro_usd": row.usage.cost_micro_usd,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one or 'unlimited'}" for name, one in value.items()) or "none"
    return str(value)
