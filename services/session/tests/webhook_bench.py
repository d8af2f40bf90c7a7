"""What the tests of webhooks share: a service with workers, and things that happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from meshwright.session.v1 import webhook_pb2
from meshwright.session.v1 import webhook_service_pb2 as pb
from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceStub
from meshwright_common.egress import EgressSettings, open_egress
from meshwright_common.events.notification import Notice, tell
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as, serving
from meshwright_common.testing.waiting import eventually
from meshwright_session.webhook_parts import webhook_parts
from meshwright_session.webhook_settings import WebhookSection
from services.session.tests.receiver import Receiver
from services.session.tests.world import Member, World, consume_all

if TYPE_CHECKING:
    from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceAsyncStub

PENDING = webhook_pb2.WEBHOOK_DELIVERY_STATE_PENDING
DELIVERED = webhook_pb2.WEBHOOK_DELIVERY_STATE_DELIVERED
FAILED = webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED


def quick(*receivers: Receiver, **settings: Any) -> WebhookSection:
    """Return settings that let these receivers be told, and pauses that a test can wait for."""
    hosts = tuple(one.host for one in receivers)
    return WebhookSection(
        **{
            "egress": EgressSettings(allowed_ports=(443,), allowed_hosts=hosts),
            "allow_http": True,
            "retry_seconds": (0.05, 0.05, 0.05),
            "look_seconds": 0.05,
            **settings,
        }
    )


@contextlib.asynccontextmanager
async def webhooks(
    world: World, section: WebhookSection, *, workers: int = 1
) -> AsyncIterator[WebhookServiceAsyncStub]:
    """Serve webhooks on the world's database, with this many workers."""
    async with open_egress(section.egress) as egress:
        built = [webhook_parts(section, world.database, world.keys, egress) for _ in range(workers)]
        parts = [*built, webhook_parts(section, world.database, world.keys, egress)]
        async with serving(parts[-1].register) as served, asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.worker.run()) for one in built]
            yield WebhookServiceStub(served.channels().open("session"))
            for one in built:
                one.worker.stop()
            if tasks:
                await asyncio.wait(tasks)


async def create(
    stub: WebhookServiceAsyncStub, owner: Member, url: str, *event_types: str
) -> tuple[str, str]:
    """Make a webhook; return its id and secret."""
    with calling_as(owner.principal):
        made = await stub.CreateWebhook(
            pb.CreateWebhookRequest(webhook=webhook_pb2.Webhook(url=url, event_types=event_types))
        )
    return made.webhook.webhook_id, made.secret


async def happened(world: World, tenant: Member, *kinds: str) -> None:
    """Let things happen in a tenant and wait until they are noted."""
    for kind in kinds:
        notice = Notice(tenant.user_id, kind, f"It is {kind}.", "task/1", {"task_id": "1"})
        async with unit_of_work(world.database, tenant.tenant_id) as connection:
            await tell(connection, notice, source="orchestrator", tenant_id=tenant.tenant_id)
    await consume_all(world)


async def deliveries(
    stub: WebhookServiceAsyncStub, owner: Member, webhook_id: str
) -> Sequence[webhook_pb2.WebhookDelivery]:
    with calling_as(owner.principal):
        answer = await stub.ListDeliveries(pb.ListDeliveriesRequest(webhook_id=webhook_id))
    return answer.deliveries


async def in_state(
    stub: WebhookServiceAsyncStub, owner: Member, webhook_id: str, state: int
) -> None:
    """Wait until all deliveries of a webhook are in a state."""

    async def are() -> bool:
        found = await deliveries(stub, owner, webhook_id)
        return bool(found) and {one.state for one in found} == {state}

    await eventually(are)
