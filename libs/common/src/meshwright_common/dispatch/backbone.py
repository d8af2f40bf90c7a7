"""The work queues and the status board that the settings name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.dispatch.embedded import EmbeddedWorkQueue
from meshwright_common.dispatch.ports import WorkQueue
from meshwright_common.dispatch.status import EmbeddedStatusBoard, StatusBoard
from meshwright_common.settings import DispatchSettings
from meshwright_common.storage.postgres import Database

EMBEDDED: Final = "embedded:"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What processes use of dispatch. `probe` raises while the queues cannot be reached."""

    queue: WorkQueue
    board: StatusBoard
    probe: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_dispatch(
    settings: DispatchSettings, database: Database, kinds: Sequence[str]
) -> AsyncIterator[Dispatch]:
    """Give the queues of `kinds`; they connect when first used. `database` serves `embedded:`."""
    if settings.url.startswith(EMBEDDED):
        queue = EmbeddedWorkQueue(database, kinds)
        yield Dispatch(queue, EmbeddedStatusBoard(database), database.probe)
        return
    # Imported only when asked for: the driver costs 100 ms.
    from meshwright_common.dispatch.rabbitmq import RabbitWorkQueue  # noqa: PLC0415
    from meshwright_common.dispatch.rabbitmq_link import Link  # noqa: PLC0415
    from meshwright_common.dispatch.rabbitmq_status import RabbitStatusBoard  # noqa: PLC0415
    from meshwright_common.dispatch.rabbitmq_topology import Topology  # noqa: PLC0415

    topology = Topology(settings.prefix, tuple(kinds))
    link = Link(settings.url, topology, name=f"meshwright-{database.service}")
    try:
        yield Dispatch(RabbitWorkQueue(link), RabbitStatusBoard(link), link.probe)
    finally:
        await link.close()
