"""What telling webhooks is made of: composed for `app`, which serves and runs it."""

from dataclasses import dataclass
from typing import Final

import grpc.aio

from meshwright.session.v1.webhook_service_pb2_grpc import add_WebhookServiceServicer_to_server
from meshwright_common.clock import SystemClock
from meshwright_common.egress import EgressClient
from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_session.adapters.postgres_webhooks import PostgresWebhooks
from meshwright_session.adapters.webhook_post import WebhookPost
from meshwright_session.adapters.webhook_queue import PostgresSendingQueue
from meshwright_session.domain.webhook_sending import Sending
from meshwright_session.domain.webhooks import Webhooks
from meshwright_session.servicers.webhooks import WebhookServicer
from meshwright_session.webhook_settings import WebhookSection
from meshwright_session.webhook_worker import WebhookWorker

WEBHOOK_SERVICE: Final = "meshwright.session.v1.WebhookService"
LEASE_MARGIN_SECONDS: Final = 30.0
"""How long the settlement of an attempt may take beyond the attempt itself."""


@dataclass(frozen=True, slots=True)
class WebhookParts:
    """What serves calls, and what works."""

    servicer: WebhookServicer
    worker: WebhookWorker

    def register(self, server: grpc.aio.Server) -> None:
        """Register what serves calls."""
        add_WebhookServiceServicer_to_server(self.servicer, server)


def webhook_parts(
    settings: WebhookSection, database: Database, keys: KeyRing, egress: EgressClient
) -> WebhookParts:
    """Build the parts."""
    clock = SystemClock()
    post = WebhookPost(
        egress, clock, timeout_seconds=settings.timeout_seconds, plain=settings.allow_http
    )
    queue = PostgresSendingQueue(
        database,
        keys,
        lease_seconds=settings.timeout_seconds + LEASE_MARGIN_SECONDS,
        disable_after_days=settings.disable_after_days,
    )
    store = PostgresWebhooks(database, keys, most=settings.per_tenant)
    return WebhookParts(
        WebhookServicer(Webhooks(store, post, clock)),
        WebhookWorker(
            queue,
            Sending(queue, post, clock, retries=settings.retry_seconds),
            slots=settings.slots,
            slots_per_webhook=settings.slots_per_webhook,
            look_seconds=settings.look_seconds,
        ),
    )
