"""Rows of `tenants` as the domain has them."""

from meshwright_common.storage.postgres import Record
from meshwright_session.domain.directory_models import Agreed, Tenant


def tenant_from(row: Record) -> Tenant:
    """Return the tenant of a whole row."""
    models = row["allowed_models"]
    return Tenant(
        tenant_id=row["tenant_id"],
        slug=row["slug"],
        display_name=row["display_name"],
        plan=row["plan"],
        state=row["state"],
        agreed=Agreed(
            sessions=row["max_sessions"],
            tokens_per_day=row["max_tokens_per_day"],
            documents=row["max_documents"],
            storage_bytes=row["max_storage_bytes"],
            concurrent_turns=row["max_concurrent_turns"],
            cost_micro_usd_per_day=row["max_cost_micro_usd_per_day"],
            models=None if models is None else tuple(models),
        ),
        create_time=row["create_time"],
    )
