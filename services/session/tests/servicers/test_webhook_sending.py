"""Messages of webhooks (G14): stored once, delivered at least once, signed, never inwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from meshwright.session.v1 import notification_service_pb2
from meshwright.session.v1 import webhook_service_pb2 as pb
from meshwright_common.egress import EgressSettings
from meshwright_common.errors import (
    FailedPrecondition,
)
from meshwright_common.events.notification import Notice, notice_event
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_session.app import make_notices
from services.session.tests.receiver import Receiver, receiving
from services.session.tests.webhook_bench import (
    DELIVERED,
    FAILED,
    PENDING,
    create,
    deliveries,
    happened,
    in_state,
    quick,
    webhooks,
)
from services.session.tests.world import SMALL_SECTION, Member, World

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A server of the tenant's."""
    async with receiving() as receiver:
        yield receiver


async def test_official_library_verifies_what_is_delivered(
    world: World, receiver: Receiver
) -> None:
    owner = await world.tenant()
    async with webhooks(world, quick(receiver)) as stub:
        webhook_id, secret = await create(stub, owner, receiver.url, "task.*")
        await happened(world, owner, "task.completed", "document.ready")
        await in_state(stub, owner, webhook_id, DELIVERED)
        (delivery,) = await deliveries(stub, owner, webhook_id)
    (received,) = receiver.received
    content = Verifier(secret).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(received.body + b" ", received.headers)
    assert secret.startswith("whsec_")
    assert content["type"] == "task.completed"
    assert content["data"]["task_id"] == "1"
    assert content["data"]["user_id"] == owner.user_id
    assert received.headers["webhook-id"] == delivery.message_id
    assert (delivery.attempts, delivery.last_status) == (1, 204)


async def test_event_that_comes_twice_is_one_delivery_whatever_number_of_workers(
    world: World, receiver: Receiver
) -> None:
    owner = await world.tenant()
    async with webhooks(world, quick(receiver), workers=3) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        notices = make_notices(SMALL_SECTION, world.keys)
        events = [
            notice_event(
                Notice(owner.user_id, f"task.n{number}", "It is.", "task/1", {}),
                source="orchestrator",
                tenant_id=owner.tenant_id,
            )
            for number in range(20)
        ]
        for _ in range(2):
            async with unit_of_work(world.database, owner.tenant_id) as connection:
                await notices.handle_all(connection, events)
        await in_state(stub, owner, webhook_id, DELIVERED)
        assert len(await deliveries(stub, owner, webhook_id)) == 20
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 20
    assert len(receiver.received) == 20


async def test_failures_are_tried_again_with_the_same_id_then_given_up(
    world: World, receiver: Receiver
) -> None:
    owner = await world.tenant()
    receiver.reply = lambda number: web.Response(status=200 if number == 3 else 500)
    async with webhooks(world, quick(receiver)) as stub:
        webhook_id, secret = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")
        await in_state(stub, owner, webhook_id, DELIVERED)
        assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
        for one in receiver.received:
            Verifier(secret).verify(one.body, one.headers)
        receiver.reply = lambda _: web.Response(status=503)
        (done,) = await deliveries(stub, owner, webhook_id)
        with calling_as(owner.principal):
            await stub.Redeliver(pb.RedeliverRequest(delivery_id=done.delivery_id))
        await in_state(stub, owner, webhook_id, FAILED)
        (failed,) = await deliveries(stub, owner, webhook_id)
    assert done.attempts == 3
    assert (failed.attempts, failed.last_status) == (4, 503)
    assert failed.message_id == done.message_id
    assert len(receiver.received) == 3 + 4


async def test_retry_after_is_honoured(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.reply = lambda _: web.Response(status=429, headers={"retry-after": "120"})
    async with webhooks(world, quick(receiver)) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")

        async def is_postponed() -> bool:
            (one,) = await deliveries(stub, owner, webhook_id)
            wait = one.next_attempt_time.ToDatetime() - one.create_time.ToDatetime()
            return one.last_status == 429 and wait > timedelta(seconds=100)

        await eventually(is_postponed)
    assert len(receiver.received) == 1


async def test_gone_disables_and_administrators_are_told(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.reply = lambda _: web.Response(status=410)
    async with webhooks(world, quick(receiver)) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")
        await in_state(stub, owner, webhook_id, FAILED)
        await happened(world, owner, "task.completed")
        assert len(await deliveries(stub, owner, webhook_id)) == 1
        with calling_as(owner.principal):
            found = (await stub.GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))).webhook
            (one,) = await deliveries(stub, owner, webhook_id)
            with pytest.raises(FailedPrecondition):
                await stub.Redeliver(pb.RedeliverRequest(delivery_id=one.delivery_id))
            with pytest.raises(FailedPrecondition):
                await stub.SendTest(pb.SendTestRequest(webhook_id=webhook_id))
    assert (found.disabled, found.disabled_reason) == (True, "GONE")
    assert "webhook.disabled" in await told_kinds(world, owner)


async def told_kinds(world: World, owner: Member) -> set[str]:
    """Return the kinds of the notifications that an owner has."""
    with calling_as(owner.principal):
        answer = await world.notifications.ListNotifications(
            notification_service_pb2.ListNotificationsRequest()
        )
    return {one.kind for one in answer.notifications}


async def test_webhook_that_fails_for_days_is_disabled(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.reply = lambda _: web.Response(status=500)
    async with webhooks(world, quick(receiver, disable_after_days=0.00001)) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")

        async def is_disabled() -> bool:
            with calling_as(owner.principal):
                answer = await stub.GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))
            return answer.webhook.disabled_reason == "FAILING"

        await eventually(is_disabled)


async def test_slow_webhook_does_not_hold_up_others(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.gate = asyncio.Event()
    async with receiving() as fast, webhooks(world, quick(receiver, fast, slots=8)) as stub:
        slow_id, _ = await create(stub, owner, receiver.url)
        fast_id, _ = await create(stub, owner, fast.url)
        await happened(world, owner, *(f"task.n{number}" for number in range(12)))
        await in_state(stub, owner, fast_id, DELIVERED)
        assert len(fast.received) == 12
        assert len(receiver.received) == 4
        assert {one.state for one in await deliveries(stub, owner, slow_id)} == {PENDING}
        receiver.gate.set()
        await in_state(stub, owner, slow_id, DELIVERED)


async def test_hanging_server_is_left_after_the_timeout(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.gate = asyncio.Event()
    async with webhooks(world, quick(receiver, timeout_seconds=0.2, retry_seconds=())) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")
        await in_state(stub, owner, webhook_id, FAILED)
        (one,) = await deliveries(stub, owner, webhook_id)
    receiver.gate.set()
    assert one.last_status == 0
    assert "too long" in one.last_error


async def test_redirects_are_not_followed(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    receiver.reply = lambda _: web.Response(status=307, headers={"location": receiver.url})
    async with webhooks(world, quick(receiver, retry_seconds=())) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")
        await in_state(stub, owner, webhook_id, FAILED)
        (one,) = await deliveries(stub, owner, webhook_id)
    assert len(receiver.received) == 1
    assert one.last_error == "answered 307: redirects are not followed"


async def test_name_that_moves_to_a_private_address_is_not_told(
    world: World, receiver: Receiver
) -> None:
    owner = await world.tenant()
    # The check of the form passes; what the name stands for is judged at each connection.
    section = quick(egress=EgressSettings(allowed_ports=(receiver.port,)), retry_seconds=())
    async with webhooks(world, section) as stub:
        webhook_id, _ = await create(stub, owner, f"http://localhost:{receiver.port}/hook")
        await happened(world, owner, "task.completed")
        await in_state(stub, owner, webhook_id, FAILED)
        (one,) = await deliveries(stub, owner, webhook_id)
    assert receiver.received == []
    assert "EGRESS_REFUSED" in one.last_error


async def test_attempt_whose_sender_died_is_made_again(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    async with webhooks(world, quick(receiver), workers=0) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await happened(world, owner, "task.completed")
    # It dies between the answer and its settlement.
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.session.tests.webhook_process"),
        *(world.superuser_url, receiver.host),
        env={**os.environ, "MESHWRIGHT_FAILPOINTS": "webhook-answered=kill"},
    )
    try:
        async with asyncio.timeout(20):
            assert await doomed.wait() == -signal.SIGKILL
    finally:
        if doomed.returncode is None:
            doomed.kill()
    assert len(receiver.received) == 1
    async with world.as_superuser() as connection:
        # Nobody waits here for the end of its lease.
        left = await connection.execute(
            "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE state = 'pending'"
            " AND next_attempt_at > now() + interval '20 s'"
        )
    async with webhooks(world, quick(receiver)) as stub:
        await in_state(stub, owner, webhook_id, DELIVERED)
        (again,) = await deliveries(stub, owner, webhook_id)
    assert left == "UPDATE 1"
    assert again.attempts == 2
    assert len(receiver.received) == 2
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
