"""Everything that this service keeps of people."""

from typing import Final

from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.rows import AnonymousRows, StoredRows
from meshwright_common.erasure.stored import StoredData
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient
from meshwright_model_router.adapters import redis_lanes
from meshwright_model_router.adapters.redis_books import FAMILY

NOBODY: Final = "erased"
"""The user of what erased users consumed, as in session's ledger, which these rows explain."""


def stored_data(database: Database, redis: RedisClient) -> tuple[StoredData, ...]:
    """Return the stores. Amounts stay for the bill when their user goes.

    Budgets know a user by a fingerprint, for three days; an attempt is logged in Redis while it
    runs, and a minute at most beyond the process that made it.
    """
    nobody = f"user_id = '{NOBODY}', session_id = ''"
    return (
        AnonymousRows(database, "model_router.model_usage", "user_id = $2", nobody),
        StoredRows(database, "model_router.budget_days"),
        # Prices refer to deployments.
        StoredRows(database, "model_router.routing_prices"),
        StoredRows(database, "model_router.routing_deployments"),
        StoredRows(database, "model_router.routing_policies"),
        StoredRows(database, "model_router.budget_shares"),
        StoredKeys(redis, FAMILY),
        StoredKeys(redis, redis_lanes.FAMILY),
        StoredRows(database, "model_router.guards"),
    )
