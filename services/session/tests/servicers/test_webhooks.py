"""Webhooks (G14): made, changed, bounded, and never pointing inwards; their secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from meshwright.session.v1 import webhook_pb2
from meshwright.session.v1 import webhook_service_pb2 as pb
from meshwright_common.egress import EgressSettings
from meshwright_common.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
)
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_session.webhook_settings import WebhookSection
from services.session.tests.receiver import Receiver, receiving
from services.session.tests.webhook_bench import (
    DELIVERED,
    FAILED,
    create,
    deliveries,
    happened,
    in_state,
    quick,
    webhooks,
)
from services.session.tests.world import World

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A server of the tenant's."""
    async with receiving() as receiver:
        yield receiver


REFUSED = [
    ("http://example.com/hook", "INVALID_ARGUMENT"),
    ("https://127.0.0.1/hook", "EGRESS_REFUSED"),
    ("https://[::1]/hook", "EGRESS_REFUSED"),
    ("https://169.254.169.254/latest", "EGRESS_REFUSED"),
    ("https://example.com:22/hook", "EGRESS_REFUSED"),
    ("https://user:secret@example.com/", "EGRESS_REFUSED"),
    ("ftp://example.com/", "EGRESS_REFUSED"),
    ("", "INVALID_ARGUMENT"),
    ("https://example.com/" + "x" * 2048, "INVALID_ARGUMENT"),
]


async def test_address_that_may_not_be_told_is_refused(world: World) -> None:
    section = WebhookSection(egress=EgressSettings(allowed_ports=(80, 443)))
    owner = await world.tenant()
    async with webhooks(world, section, workers=0) as stub:
        for url, reason in REFUSED:
            with pytest.raises(ServiceError) as refused:
                await create(stub, owner, url)
            assert refused.value.reason == reason, url


async def test_both_secrets_sign_until_the_old_one_expires(
    world: World, receiver: Receiver
) -> None:
    owner = await world.tenant()
    async with webhooks(world, quick(receiver)) as stub:
        webhook_id, old = await create(stub, owner, receiver.url)
        with calling_as(owner.principal):
            new = (await stub.RotateSecret(pb.RotateSecretRequest(webhook_id=webhook_id))).secret
            await stub.SendTest(pb.SendTestRequest(webhook_id=webhook_id))
        await in_state(stub, owner, webhook_id, DELIVERED)
        (received,) = receiver.received
        for secret in (old, new):
            assert Verifier(secret).verify(received.body, received.headers)["type"] == (
                "webhook.test"
            )
        with calling_as(owner.principal):
            request = pb.RotateSecretRequest(webhook_id=webhook_id)
            request.overlap.FromSeconds(0)
            await stub.RotateSecret(request)
            await stub.SendTest(pb.SendTestRequest(webhook_id=webhook_id))
        await eventually(lambda: len(receiver.received) == 2)
    for secret in (old, new):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(receiver.received[1].body, receiver.received[1].headers)


async def test_webhooks_are_changed_and_bounded(world: World, receiver: Receiver) -> None:
    owner, other = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    async with webhooks(world, quick(receiver, per_tenant=2), workers=0) as stub:
        webhook_id, _ = await create(stub, owner, receiver.url)
        await create(stub, owner, receiver.url)
        with pytest.raises(ResourceExhausted):
            await create(stub, owner, receiver.url)
        with pytest.raises(PermissionDenied):
            await create(stub, member, receiver.url)
        with pytest.raises(InvalidArgument):
            await create(stub, owner, receiver.url, "Task Completed")
        change = pb.UpdateWebhookRequest(
            webhook=webhook_pb2.Webhook(webhook_id=webhook_id, disabled=True, description="Off.")
        )
        change.update_mask.paths.extend(["disabled", "description"])
        await happened(world, owner, "task.completed")
        with calling_as(owner.principal):
            changed = (await stub.UpdateWebhook(change)).webhook
        assert [one.state for one in await deliveries(stub, owner, webhook_id)] == [FAILED]
        with calling_as(other.principal):
            with pytest.raises(NotFound):
                await stub.GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))
            await stub.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id))
        with calling_as(owner.principal):
            found = (await stub.ListWebhooks(pb.ListWebhooksRequest())).webhooks
            await stub.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id))
            left = (await stub.ListWebhooks(pb.ListWebhooksRequest())).webhooks
    assert (changed.disabled, changed.description, changed.url) == (True, "Off.", receiver.url)
    assert (len(found), len(left)) == (2, 1)


async def test_unknown_delivery_is_not_found(world: World, receiver: Receiver) -> None:
    owner = await world.tenant()
    async with webhooks(world, quick(receiver), workers=0) as stub:
        with calling_as(owner.principal), pytest.raises(NotFound) as missing:
            await stub.Redeliver(pb.RedeliverRequest(delivery_id=new_id()))
    assert missing.value.reason == "WEBHOOK_DELIVERY_NOT_FOUND"
