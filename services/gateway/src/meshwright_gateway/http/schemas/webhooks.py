"""Bodies of webhooks."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Input, Listing, Output

EventTypes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
    Field(
        strict=False,
        max_length=50,
        description="Kinds that are told, such as `task.completed` or `task.*`. Empty: all.",
    ),
]
Url = Annotated[
    str,
    Field(min_length=1, max_length=2048, description="A public https address. No redirects."),
]


class WebhookCreation(Input):
    """An address that is to be told what happens."""

    url: Url
    description: str = Field(default="", max_length=300)
    event_types: EventTypes = ()
    disabled: bool = False


class WebhookUpdate(Input):
    """What to change; what is absent stays."""

    url: Url | None = None
    description: str | None = Field(default=None, max_length=300)
    event_types: EventTypes | None = None
    disabled: bool | None = None


class SecretRotation(Input):
    """How a secret is replaced."""

    overlap_seconds: float = Field(
        default=86_400,
        ge=0,
        le=7 * 86_400,
        description="How long messages are signed with the old secret, too.",
    )


class Webhook(Output):
    """An address that is told what happens in the tenant."""

    webhook_id: str
    url: str
    description: str
    event_types: list[str]
    disabled: bool
    disabled_reason: str = Field(
        description="`GONE` or `FAILING` when the platform disabled it, else empty."
    )
    previous_secret_expire_time: datetime | None
    failing_since: datetime | None
    created_by: str
    create_time: datetime
    update_time: datetime


class WebhookWithSecret(Webhook):
    """A webhook and the secret that signs its messages from now on: it is shown once."""

    secret: str


class WebhookList(Listing):
    """Webhooks, newest first."""

    webhooks: list[Webhook]


DeliveryState = Literal["pending", "delivered", "failed"]


class WebhookDelivery(Output):
    """One message for one webhook."""

    delivery_id: str
    webhook_id: str
    message_id: str = Field(description="The header webhook-id, the same in every attempt.")
    event_type: str
    state: Literal["pending", "delivered", "failed", "unspecified"]
    attempts: int
    next_attempt_time: datetime | None
    last_status: int = Field(description="Status of the last answer; 0: there was none.")
    last_error: str
    last_duration_milliseconds: int
    create_time: datetime
    end_time: datetime | None


class WebhookDeliveryList(Listing):
    """Deliveries, newest first."""

    deliveries: list[WebhookDelivery]
