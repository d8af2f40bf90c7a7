"""Addresses of a tenant that are told what happens."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from meshwright.session.v1 import webhook_service_pb2 as pb
from meshwright_gateway.http.paging import API_PREFIX, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import webhooks as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.webhooks import (
    DELIVERY_STATES,
    create_request,
    delivery_view,
    rotate_request,
    secret_view,
    update_request,
    webhook_view,
)

if TYPE_CHECKING:
    from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceAsyncStub


def webhooks_router(stub: "WebhookServiceAsyncStub") -> APIRouter:
    """Return the routes about webhooks."""
    router = APIRouter(prefix=f"{API_PREFIX}/webhooks", tags=["webhooks"])

    @router.get("")
    async def list_webhooks(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.WebhookList:
        """Webhooks of the tenant, newest first."""
        answer = await stub.ListWebhooks(
            pb.ListWebhooksRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.WebhookList(
            webhooks=[webhook_view(one) for one in answer.webhooks],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def create_webhook(body: schemas.WebhookCreation) -> schemas.WebhookWithSecret:
        """Make a webhook. The secret that signs its messages is in this answer only."""
        answer = await stub.CreateWebhook(create_request(body))
        return secret_view(answer.webhook, answer.secret)

    @router.get("/{webhook_id}")
    async def get_webhook(webhook_id: IdPath) -> schemas.Webhook:
        """One webhook."""
        answer = await stub.GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))
        return webhook_view(answer.webhook)

    @router.patch("/{webhook_id}")
    async def update_webhook(webhook_id: IdPath, body: schemas.WebhookUpdate) -> schemas.Webhook:
        """Change a webhook. Disabling it gives up what is pending."""
        answer = await stub.UpdateWebhook(update_request(webhook_id, body))
        return webhook_view(answer.webhook)

    @router.delete("/{webhook_id}", status_code=204)
    async def delete_webhook(webhook_id: IdPath) -> None:
        """Remove a webhook with its deliveries. Removing an absent one succeeds."""
        await stub.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id))

    @router.post("/{webhook_id}/secret")
    async def rotate_secret(
        webhook_id: IdPath, body: schemas.SecretRotation
    ) -> schemas.WebhookWithSecret:
        """Give a webhook a new secret. The old one signs, too, until the overlap is over."""
        answer = await stub.RotateSecret(rotate_request(webhook_id, body))
        return secret_view(answer.webhook, answer.secret)

    @router.post("/{webhook_id}/test", status_code=202)
    async def send_test(webhook_id: IdPath) -> schemas.WebhookDelivery:
        """Send a message of type `webhook.test`."""
        answer = await stub.SendTest(pb.SendTestRequest(webhook_id=webhook_id))
        return delivery_view(answer.delivery)

    @router.get("/{webhook_id}/deliveries")
    async def list_deliveries(
        webhook_id: IdPath,
        state: Annotated[
            list[schemas.DeliveryState] | None, Query(description="Only these. Absent: all.")
        ] = None,
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.WebhookDeliveryList:
        """Deliveries of a webhook, newest first."""
        answer = await stub.ListDeliveries(
            pb.ListDeliveriesRequest(
                webhook_id=webhook_id,
                states=[DELIVERY_STATES[one] for one in state or ()],
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.WebhookDeliveryList(
            deliveries=[delivery_view(one) for one in answer.deliveries],
            next_page_token=answer.page.next_page_token,
        )

    return router


def deliveries_router(stub: "WebhookServiceAsyncStub") -> APIRouter:
    """Return the routes about single deliveries."""
    router = APIRouter(prefix=f"{API_PREFIX}/webhook-deliveries", tags=["webhooks"])

    @router.post("/{delivery_id}/redeliver", status_code=202)
    async def redeliver(delivery_id: IdPath) -> schemas.WebhookDelivery:
        """Let a delivery be tried again, whatever became of it, with the same webhook-id."""
        answer = await stub.Redeliver(pb.RedeliverRequest(delivery_id=delivery_id))
        return delivery_view(answer.delivery)

    return router
