"""Tenants, quotas and users as these commands print them."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright_cli.commands.tenants.options import plan_name, state_name

LIMITS: Final = {
    "sessions": "max_sessions",
    "tokens_per_day": "max_tokens_per_day",
    "documents": "max_documents",
    "storage_bytes": "max_storage_bytes",
    "concurrent_turns": "max_concurrent_turns",
    "cost_micro_usd_per_day": "max_cost_micro_usd_per_day",
}
"""Limits by the names that people read, and their fields."""
UNLIMITED: Final = "unlimited"


def moment(timestamp: Timestamp) -> str:
    """Return a time as 2026-11-28T03:00:00Z."""
    return timestamp.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")


def tenant_content(tenant: tenant_pb2.Tenant) -> dict[str, object]:
    """Return a tenant for programs."""
    agreed = tenant.agreed_quota
    limits: dict[str, object] = {
        name: getattr(agreed, field)
        for name, field in LIMITS.items()
        if agreed.HasField(field)  # type: ignore[arg-type]
    }
    if agreed.HasField("allowed_models"):
        limits["allowed_models"] = list(agreed.allowed_models.names)
    return {
        "tenant_id": tenant.tenant_id,
        "slug": tenant.slug,
        "display_name": tenant.display_name,
        "plan": plan_name(tenant.plan),
        "state": state_name(tenant.state),
        "agreed": limits,
        "create_time": moment(tenant.create_time),
    }


def tenant_row(tenant: tenant_pb2.Tenant) -> tuple[str, ...]:
    """Return a tenant as a row: slug, plan, state, id, created, name."""
    return (
        tenant.slug,
        plan_name(tenant.plan),
        state_name(tenant.state),
        tenant.tenant_id,
        moment(tenant.create_time),
        tenant.display_name,
    )


def quota_content(answer: directory_service_pb2.GetQuotaResponse) -> dict[str, object]:
    """Return a quota for programs; null: no limit, or not known."""
    return {
        "plan": plan_name(answer.plan),
        "state": state_name(answer.state),
        **{
            name: {
                "limit": getattr(answer.quota, field) or None,
                "used": None if field in answer.unknown else getattr(answer.used, field),
            }
            for name, field in LIMITS.items()
        },
        "allowed_models": list(answer.quota.allowed_models),
    }


def quota_rows(answer: directory_service_pb2.GetQuotaResponse) -> list[tuple[str, ...]]:
    """Return a quota as rows: what, used, limit, share."""
    rows: list[tuple[str, ...]] = []
    for name, field in LIMITS.items():
        limit, used = getattr(answer.quota, field), getattr(answer.used, field)
        known = field not in answer.unknown
        rows.append(
            (
                name.replace("_", " "),
                str(used) if known else "not known",
                str(limit) if limit else UNLIMITED,
                f"{used * 100 // limit} %" if limit and known else "",
            )
        )
    return rows


def user_content(user: tenant_pb2.User) -> dict[str, object]:
    """Return a user for programs."""
    return {
        "user_id": user.user_id,
        "name": user.name,
        "email": user.email,
        "roles": list(user.roles),
        "disabled": user.disabled,
        "create_time": moment(user.create_time),
    }


def user_row(user: tenant_pb2.User) -> tuple[str, ...]:
    """Return a user as a row: name, roles, state, id, created."""
    return (
        user.name,
        ", ".join(user.roles),
        "disabled" if user.disabled else "active",
        user.user_id,
        moment(user.create_time),
    )
