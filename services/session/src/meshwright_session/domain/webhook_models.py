"""Webhooks: addresses of a tenant that are told what happens, and what became of telling them."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from meshwright_common.errors import FailedPrecondition, NotFound, ResourceExhausted

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets of Standard Webhooks begin with
SECRET_BYTES: Final = 32
TEST: Final = "webhook.test"
GONE: Final = "GONE"
FAILING: Final = "FAILING"


class WebhookNotFound(NotFound):
    """No such webhook in this tenant."""

    reason = "WEBHOOK_NOT_FOUND"
    text = "There is no such webhook."


class DeliveryNotFound(NotFound):
    """No such delivery in this tenant, or not any more."""

    reason = "WEBHOOK_DELIVERY_NOT_FOUND"
    text = "There is no such delivery."


class TooManyWebhooks(ResourceExhausted):
    """The tenant has as many webhooks as it may."""

    text = "The tenant has {limit} webhooks, and may have no more."


class WebhookDisabled(FailedPrecondition):
    """Nothing is sent to a disabled webhook."""

    text = "The webhook is disabled."


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as stored, without its secrets. Empty `event_types`: all are told."""

    tenant_id: str
    webhook_id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    disabled: bool
    disabled_reason: str
    previous_expire_time: datetime | None
    failing_since: datetime | None
    created_by: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class WebhookDraft:
    """What a caller says of a new webhook."""

    url: str
    description: str
    event_types: tuple[str, ...]
    disabled: bool


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What to change; None stays as it is."""

    url: str | None = None
    description: str | None = None
    event_types: tuple[str, ...] | None = None
    disabled: bool | None = None


class DeliveryState(StrEnum):
    """State of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one webhook, as stored."""

    delivery_id: str
    webhook_id: str
    message_id: str
    event_type: str
    state: DeliveryState
    attempts: int
    next_attempt_time: datetime | None
    last_status: int
    last_error: str
    last_duration_milliseconds: int
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery that is being tried. `number` from 1; whoever has the last one settles it.

    `secrets`: those that sign, the newest first. `trace`: of the event that it tells of.
    """

    tenant_id: str
    webhook_id: str
    delivery_id: str
    message_id: str
    number: int
    url: str
    secrets: tuple[str, ...]
    body: bytes
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` 0: nothing did, and `error` says why. `retry_after_seconds`: when
    the other side wants to be asked again.
    """

    status: int
    error: str = ""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after an attempt: `retry_in_seconds` None ends it.

    `disables`: the webhook is to be told nothing more.
    """

    delivered: bool
    retry_in_seconds: float | None = None
    disables: bool = False


def new_secret() -> str:
    """Return a new secret in the form of Standard Webhooks."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def message_id_of(event_id: str) -> str:
    """Return what the header webhook-id says of an event's message."""
    return f"msg_{event_id}"


def wants(event_types: tuple[str, ...], event_type: str) -> bool:
    """Return whether a filter lets a type through."""
    return not event_types or any(
        event_type.startswith(one[:-1]) if one.endswith(".*") else event_type == one
        for one in event_types
    )


def signatures(attempt: Attempt, timestamp: int) -> str:
    """Return the header webhook-signature: HMAC-SHA256 of id, time and body, one for each secret.

    Source: the specification of Standard Webhooks, "Signature scheme".
    """
    signed = f"{message_id_of(attempt.message_id)}.{timestamp}.".encode() + attempt.body
    return " ".join(f"v1,{_signature(secret, signed)}" for secret in attempt.secrets)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


MAX_OVERLAP: Final = timedelta(days=7)
"""How long a secret that was replaced may sign at most."""
