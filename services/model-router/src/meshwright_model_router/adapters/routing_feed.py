"""What tenants made, from the database into the tables in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.change_feed import Feed
from meshwright_common.storage.postgres import Record
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters.routing_rows import tenant_routing
from meshwright_model_router.domain.routing_store import TenantRouting
from meshwright_model_router.domain.routing_table import RoutingTables

DOOR: Final = "model_router.routing_since"
_logger = get_logger(__name__)


def routing_feed(tables: RoutingTables) -> Feed:
    """Return the feed that keeps `tables` as the database has them."""

    def take(rows: Sequence[Record], whole: bool) -> None:
        for row in rows:
            try:
                routing = tenant_routing(row["deployments"], row["prices"], row["policies"])
            except (KeyError, TypeError, ValueError):
                # Written by a newer version, say: this tenant keeps what it had.
                _logger.exception("routing_not_understood", tenant_id=row["tenant_id"])
                continue
            tables.put_tenant(row["tenant_id"], routing)
        if whole:
            for gone in set(tables.tenants) - {row["tenant_id"] for row in rows}:
                tables.put_tenant(gone, TenantRouting())

    return Feed(DOOR, take)
