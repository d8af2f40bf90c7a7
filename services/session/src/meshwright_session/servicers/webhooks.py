"""WebhookService."""

from meshwright.session.v1 import webhook_service_pb2 as pb
from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.webhooks import Webhooks
from meshwright_session.servicers import Context
from meshwright_session.wire import values, webhooks


class WebhookServicer(WebhookServiceServicer):
    """Serves WebhookService."""

    def __init__(self, domain: Webhooks) -> None:
        self._webhooks = domain

    async def CreateWebhook(
        self, request: pb.CreateWebhookRequest, context: Context
    ) -> pb.CreateWebhookResponse:
        """Make a webhook."""
        made, secret = await self._webhooks.create(principal(), webhooks.draft_of(request.webhook))
        return pb.CreateWebhookResponse(webhook=webhooks.webhook_message(made), secret=secret)

    async def GetWebhook(
        self, request: pb.GetWebhookRequest, context: Context
    ) -> pb.GetWebhookResponse:
        """Return a webhook."""
        found = await self._webhooks.get(principal(), parse_id(request.webhook_id, "webhook_id"))
        return pb.GetWebhookResponse(webhook=webhooks.webhook_message(found))

    async def ListWebhooks(
        self, request: pb.ListWebhooksRequest, context: Context
    ) -> pb.ListWebhooksResponse:
        """Return a page of webhooks."""
        page = await self._webhooks.list(principal(), values.page_request(request.page))
        return pb.ListWebhooksResponse(
            webhooks=[webhooks.webhook_message(one) for one in page.rows],
            page=values.page_info(page.next_token),
        )

    async def UpdateWebhook(
        self, request: pb.UpdateWebhookRequest, context: Context
    ) -> pb.UpdateWebhookResponse:
        """Change a webhook."""
        webhook_id = parse_id(request.webhook.webhook_id, "webhook.webhook_id")
        changed = await self._webhooks.update(principal(), webhook_id, webhooks.change_of(request))
        return pb.UpdateWebhookResponse(webhook=webhooks.webhook_message(changed))

    async def RotateSecret(
        self, request: pb.RotateSecretRequest, context: Context
    ) -> pb.RotateSecretResponse:
        """Give a webhook a new secret."""
        webhook_id = parse_id(request.webhook_id, "webhook_id")
        changed, secret = await self._webhooks.rotate(
            principal(), webhook_id, webhooks.overlap_of(request)
        )
        return pb.RotateSecretResponse(webhook=webhooks.webhook_message(changed), secret=secret)

    async def DeleteWebhook(
        self, request: pb.DeleteWebhookRequest, context: Context
    ) -> pb.DeleteWebhookResponse:
        """Remove a webhook."""
        await self._webhooks.remove(principal(), parse_id(request.webhook_id, "webhook_id"))
        return pb.DeleteWebhookResponse()

    async def ListDeliveries(
        self, request: pb.ListDeliveriesRequest, context: Context
    ) -> pb.ListDeliveriesResponse:
        """Return a page of a webhook's deliveries."""
        page = await self._webhooks.deliveries(
            principal(),
            parse_id(request.webhook_id, "webhook_id"),
            webhooks.states_of(request.states),
            values.page_request(request.page),
        )
        return pb.ListDeliveriesResponse(
            deliveries=[webhooks.delivery_message(one) for one in page.rows],
            page=values.page_info(page.next_token),
        )

    async def Redeliver(
        self, request: pb.RedeliverRequest, context: Context
    ) -> pb.RedeliverResponse:
        """Let a delivery be tried again."""
        again = await self._webhooks.redeliver(
            principal(), parse_id(request.delivery_id, "delivery_id")
        )
        return pb.RedeliverResponse(delivery=webhooks.delivery_message(again))

    async def SendTest(self, request: pb.SendTestRequest, context: Context) -> pb.SendTestResponse:
        """Send a test message."""
        sent = await self._webhooks.test(principal(), parse_id(request.webhook_id, "webhook_id"))
        return pb.SendTestResponse(delivery=webhooks.delivery_message(sent))
