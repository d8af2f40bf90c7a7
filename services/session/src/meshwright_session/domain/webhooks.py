"""What administrators do with webhooks."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.ids import new_id
from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.notification_models import NewNotification
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.webhook_models import (
    TEST,
    Delivery,
    DeliveryState,
    Webhook,
    WebhookChange,
    WebhookDraft,
    new_secret,
)


class Addresses(Protocol):
    """Which addresses may be told something."""

    def check(self, url: str) -> None:
        """Raises: InvalidArgument, PermissionDenied (EGRESS_REFUSED)."""
        ...


class WebhookIntake(Protocol):
    """Takes what webhooks are told inside the transaction in which the events are handled."""

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        """Add a message for each webhook that wants one, once for each notification of the tenant.

        Webhooks of the tenant that are disabled are told nothing.
        """
        ...


class WebhookStore(Protocol):
    """The webhooks of tenants, and their deliveries."""

    async def add(
        self, tenant_id: str, created_by: str, draft: WebhookDraft, secret: str, act: Act
    ) -> Webhook:
        """Store a webhook. Raises: TooManyWebhooks."""
        ...

    async def find(self, tenant_id: str, webhook_id: str) -> Webhook:
        """Raises: WebhookNotFound."""
        ...

    async def list(self, tenant_id: str, before: str | None, limit: int) -> Sequence[Webhook]:
        """Return webhooks older than an id, newest first."""
        ...

    async def change(
        self, tenant_id: str, webhook_id: str, change: WebhookChange, act: Act
    ) -> Webhook:
        """Change a webhook; disabling gives up what is pending. Raises: WebhookNotFound."""
        ...

    async def rotate(
        self, tenant_id: str, webhook_id: str, secret: str, overlap: timedelta, act: Act
    ) -> Webhook:
        """Replace the secret; the old one signs on for `overlap`. Raises: WebhookNotFound."""
        ...

    async def remove(self, tenant_id: str, webhook_id: str, act: Act) -> None:
        """Remove a webhook and its deliveries, if it is there."""
        ...

    async def deliveries(
        self,
        tenant_id: str,
        webhook_id: str,
        states: Sequence[DeliveryState],
        before: str | None,
        limit: int,
    ) -> Sequence[Delivery]:
        """Return deliveries older than an id, newest first. Raises: WebhookNotFound."""
        ...

    async def again(self, tenant_id: str, delivery_id: str) -> Delivery:
        """Let a delivery be due, as if it was never tried.

        Raises: DeliveryNotFound, WebhookDisabled.
        """
        ...

    async def enqueue(
        self, tenant_id: str, webhook_id: str, event_type: str, message_id: str, body: bytes
    ) -> Delivery:
        """Add a message for one webhook. Raises: WebhookNotFound, WebhookDisabled."""
        ...


class Webhooks:
    """The use cases."""

    def __init__(self, store: WebhookStore, addresses: Addresses, clock: Clock) -> None:
        self._store = store
        self._addresses = addresses
        self._clock = clock

    async def create(self, caller: Principal, draft: WebhookDraft) -> tuple[Webhook, str]:
        """Make a webhook; return it with its secret.

        Raises: InvalidArgument, PermissionDenied (EGRESS_REFUSED), TooManyWebhooks.
        """
        self._addresses.check(draft.url)
        secret = new_secret()
        made = await self._store.add(
            caller.tenant_id, caller.subject, draft, secret, Act("webhook.created", "")
        )
        return made, secret

    async def get(self, caller: Principal, webhook_id: str) -> Webhook:
        """Return a webhook. Raises: WebhookNotFound."""
        return await self._store.find(caller.tenant_id, webhook_id)

    async def list(self, caller: Principal, page: PageRequest) -> Page[Webhook]:
        """Return a page of webhooks, newest first."""
        scope = (caller.tenant_id, "webhooks")
        rows = await self._store.list(caller.tenant_id, _before(scope, page.token), page.size + 1)
        shown, last = paging.cut(rows, page.size)
        return Page(shown, "" if last is None else paging.encode(scope, (last.webhook_id,)))

    async def update(self, caller: Principal, webhook_id: str, change: WebhookChange) -> Webhook:
        """Change a webhook. Raises: WebhookNotFound, InvalidArgument, PermissionDenied."""
        if change.url is not None:
            self._addresses.check(change.url)
        return await self._store.change(
            caller.tenant_id, webhook_id, change, _act("changed", webhook_id)
        )

    async def rotate(
        self, caller: Principal, webhook_id: str, overlap: timedelta
    ) -> tuple[Webhook, str]:
        """Give a webhook a new secret; return both. Raises: WebhookNotFound."""
        secret = new_secret()
        changed = await self._store.rotate(
            caller.tenant_id, webhook_id, secret, overlap, _act("secret_rotated", webhook_id)
        )
        return changed, secret

    async def remove(self, caller: Principal, webhook_id: str) -> None:
        """Remove a webhook, if it is there."""
        await self._store.remove(caller.tenant_id, webhook_id, _act("deleted", webhook_id))

    async def deliveries(
        self,
        caller: Principal,
        webhook_id: str,
        states: Sequence[DeliveryState],
        page: PageRequest,
    ) -> Page[Delivery]:
        """Return a page of a webhook's deliveries, newest first. Raises: WebhookNotFound."""
        scope = (caller.tenant_id, "deliveries", webhook_id, *sorted(states))
        rows = await self._store.deliveries(
            caller.tenant_id, webhook_id, states, _before(scope, page.token), page.size + 1
        )
        shown, last = paging.cut(rows, page.size)
        return Page(shown, "" if last is None else paging.encode(scope, (last.delivery_id,)))

    async def redeliver(self, caller: Principal, delivery_id: str) -> Delivery:
        """Let a delivery be tried again. Raises: DeliveryNotFound, WebhookDisabled."""
        return await self._store.again(caller.tenant_id, delivery_id)

    async def test(self, caller: Principal, webhook_id: str) -> Delivery:
        """Send a test message. Raises: WebhookNotFound, WebhookDisabled."""
        body = message_body(TEST, self._clock.now(), {"webhook_id": webhook_id})
        return await self._store.enqueue(caller.tenant_id, webhook_id, TEST, new_id(), body)


def message_body(event_type: str, time: datetime, data: Mapping[str, object]) -> bytes:
    """Return the body of a message as Standard Webhooks has it."""
    content = {"type": event_type, "timestamp": time.isoformat(), "data": data}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _before(scope: paging.Scope, token: str) -> str | None:
    position = paging.decode(scope, token, (str,))
    return None if position is None else paging.identifier(position[0])


def _act(what: str, webhook_id: str) -> Act:
    return Act(f"webhook.{what}", f"webhook/{webhook_id}")
