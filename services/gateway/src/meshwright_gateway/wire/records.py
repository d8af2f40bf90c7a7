"""Usage, audit, tenants, users and API keys: messages to JSON bodies."""

from datetime import datetime
from typing import Final

from google.protobuf import field_mask_pb2

from meshwright.session.v1 import (
    audit_service_pb2,
    directory_service_pb2,
    tenant_pb2,
    usage_service_pb2,
)
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import directory, records
from meshwright_gateway.wire import values

_DIMENSIONS: Final = {
    "day": usage_service_pb2.USAGE_DIMENSION_DAY,
    "user": usage_service_pb2.USAGE_DIMENSION_USER,
    "model": usage_service_pb2.USAGE_DIMENSION_MODEL,
    "feature": usage_service_pb2.USAGE_DIMENSION_FEATURE,
}


def usage_request(
    start: datetime | None,
    end: datetime | None,
    group_by: list[records.UsageGroup],
    user_id: str,
) -> usage_service_pb2.QueryUsageRequest:
    """Return the request for sums; its page is the caller's to set."""
    return usage_service_pb2.QueryUsageRequest(
        start_time=values.timestamp_of(start),
        end_time=values.timestamp_of(end),
        group_by=[_DIMENSIONS[group] for group in group_by],
        user_id=user_id,
    )


def usage_sum_view(row: usage_service_pb2.UsageSum) -> records.UsageSum:
    """Return a sum as JSON shows it."""
    return records.UsageSum(
        day=row.day,
        user_id=row.user_id,
        model=row.model,
        feature=row.feature,
        call_count=row.call_count,
        usage=values.usage_from(row.usage),
    )


def task_statistics_view(row: usage_service_pb2.TaskStatistics) -> records.TaskStatistics:
    """Return statistics as JSON shows them."""
    return records.TaskStatistics(
        day=row.day,
        agent=row.agent,
        state=row.state,
        task_count=row.task_count,
        total_tokens=row.total_tokens,
        cost_micro_usd=row.cost_micro_usd,
        total_duration_milliseconds=row.total_duration.ToMilliseconds(),
    )


def usage_row(row: usage_service_pb2.ExportRowsResponse) -> dict[str, object]:
    """Return a row of the ledger by the names of `records.UsageRow`, in its order."""
    usage = row.usage
    return {
        "event_id": row.event_id,
        "time": row.time.ToJsonString(),
        "user_id": row.user_id,
        "model": row.model,
        "deployment": row.deployment,
        "operation": row.operation,
        "task_id": row.task_id,
        "step": row.step,
        "attempt": row.attempt,
        "session_id": row.session_id,
        "feature": row.feature,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_micro_usd": usage.cost_micro_usd,
        "estimated": usage.estimated,
        "provider": row.provider,
        "outcome": row.outcome,
        "first_token_milliseconds": row.first_token_milliseconds,
        "duration_milliseconds": row.duration_milliseconds,
    }


def audit_view(record: audit_service_pb2.AuditRecord) -> records.AuditRecord:
    """Return an audit record as JSON shows it."""
    return records.AuditRecord(
        sequence=record.sequence,
        event_id=record.event_id,
        time=values.moment_from(record.time),
        actor=record.actor,
        action=record.action,
        resource=record.resource,
        outcome=record.outcome,
        source=record.source,
        request_id=record.request_id,
        details=values.object_from(record.details),
        previous_hash=record.previous_hash.hex(),
        hash=record.hash.hex(),
    )


def verdict_view(verdict: audit_service_pb2.VerifyAuditResponse) -> records.AuditVerdict:
    """Return whether the chain is whole as JSON shows it."""
    return records.AuditVerdict(
        valid=verdict.valid,
        record_count=verdict.record_count,
        first_bad_sequence=verdict.first_bad_sequence or None,
        problem=verdict.problem,
        first_sequence=verdict.first_sequence,
        checkpoint_count=verdict.checkpoint_count,
        checkpointed_sequence=verdict.checkpointed_sequence,
    )


def checkpoint_view(checkpoint: audit_service_pb2.AuditCheckpoint) -> records.AuditCheckpoint:
    """Return a checkpoint as JSON shows it."""
    return records.AuditCheckpoint(
        number=checkpoint.number,
        sequence=checkpoint.sequence,
        time=values.moment_from(checkpoint.time),
        document=checkpoint.document,
        signature=checkpoint.signature.hex(),
        key_id=checkpoint.key_id,
        stored=checkpoint.stored,
    )


def user_view(user: tenant_pb2.User) -> directory.User:
    """Return a user as JSON shows it."""
    return directory.User(
        user_id=user.user_id,
        name=user.name,
        email=user.email,
        roles=list(user.roles),
        disabled=user.disabled,
        create_time=values.moment_from(user.create_time),
    )


def tenant_view(tenant: tenant_pb2.Tenant) -> directory.Tenant:
    """Return a tenant as JSON shows it."""
    return directory.Tenant.model_validate(
        {
            "tenant_id": tenant.tenant_id,
            "slug": tenant.slug,
            "display_name": tenant.display_name,
            "plan": values.enum_name(tenant_pb2.Plan, tenant.plan, "PLAN_"),
            "suspended": tenant.suspended,
            "create_time": values.moment_from(tenant.create_time),
        }
    )


def quota_view(answer: directory_service_pb2.GetQuotaResponse) -> directory.Quota:
    """Return a quota as JSON shows it."""

    def state(name: str) -> dict[str, int | None]:
        used: int | None = getattr(answer.used, name)
        return {
            "limit": getattr(answer.quota, name) or None,
            "used": None if name in answer.unknown else used,
        }

    return directory.Quota.model_validate(
        {
            "plan": values.enum_name(tenant_pb2.Plan, answer.plan, "PLAN_"),
            "state": values.enum_name(tenant_pb2.TenantState, answer.state, "TENANT_STATE_"),
            "sessions": state("max_sessions"),
            "tokens_per_day": state("max_tokens_per_day"),
            "documents": state("max_documents"),
            "storage_bytes": state("max_storage_bytes"),
            "concurrent_turns": state("max_concurrent_turns"),
            "cost_micro_usd_per_day": state("max_cost_micro_usd_per_day"),
            "allowed_models": list(answer.quota.allowed_models),
            "alert_percents": list(answer.alert_percents),
        }
    )


def update_user_request(
    user_id: str, body: directory.UserChange
) -> directory_service_pb2.UpdateUserRequest:
    """Return the request that changes what a body names. Raises: InvalidArgument for nothing."""
    changes = body.model_dump(exclude_none=True)
    if not changes:
        raise misshapen("body", f"must have one of {', '.join(directory.UserChange.model_fields)}")
    return directory_service_pb2.UpdateUserRequest(
        user=tenant_pb2.User(user_id=user_id, **changes),
        update_mask=field_mask_pb2.FieldMask(paths=sorted(changes)),
    )


def create_api_key_request(
    body: directory.ApiKeyCreate,
) -> directory_service_pb2.CreateApiKeyRequest:
    """Return the request that creates an API key."""
    return directory_service_pb2.CreateApiKeyRequest(
        user_id=body.user_id or "",
        label=body.label,
        permissions=body.permissions,
        expire_time=values.timestamp_of(body.expire_time),
    )


def api_key_view(key: tenant_pb2.ApiKey) -> directory.ApiKey:
    """Return an API key as JSON shows it."""
    return directory.ApiKey(
        api_key_id=key.api_key_id,
        user_id=key.user_id,
        label=key.label,
        prefix=key.prefix,
        permissions=list(key.permissions),
        revoked=key.revoked,
        create_time=values.moment_from(key.create_time),
        expire_time=values.time_from(key.expire_time),
    )
