"""What tenants change of models reaches every replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage import change_feed
from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.change_feed import Feed
from meshwright_common.storage.postgres import Connection, Database

CHANNEL: Final = "meshwright_model_router_changes"


def announce_change(connection: Connection) -> None:
    """Wake the replicas when the open transaction has committed."""
    announce_after_commit(connection, Announcement(CHANNEL, ""))


class ChangeFeed(change_feed.ChangeFeed):
    """Keeps what `feeds` hold in memory at most 2 s behind the database, while that answers."""

    def __init__(self, database: Database, feeds: Sequence[Feed]) -> None:
        super().__init__(database, CHANNEL, feeds)
