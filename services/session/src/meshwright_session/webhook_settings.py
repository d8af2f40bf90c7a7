"""Settings of webhooks: `MESHWRIGHT_SESSION__WEBHOOKS__…`."""

from pydantic import Field

from meshwright_common.egress import EgressSettings
from meshwright_common.settings import Section
from meshwright_session.domain.webhook_sending import DEFAULT_RETRIES


class WebhookSection(Section):
    """How a tenant's own servers are told what happens."""

    egress: EgressSettings = EgressSettings(allowed_ports=(443, 8443))
    """Where messages may go. `allowed_hosts` are `host:port` that may be private addresses."""

    allow_http: bool = False
    """Take http addresses, too: who is on the way can then read and change what is sent."""

    retry_seconds: tuple[float, ...] = Field(default=DEFAULT_RETRIES, max_length=100)
    """Pauses before the second and each further attempt; after the last one it is given up."""

    timeout_seconds: float = Field(default=15, gt=0, le=30)
    """How long an attempt may take."""

    disable_after_days: float = Field(default=5, gt=0, le=365)
    """A webhook of which every attempt failed for so long is disabled."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    """How long deliveries are kept after their end."""

    per_tenant: int = Field(default=20, ge=1, le=1000)
    """Webhooks that a tenant may have."""

    slots: int = Field(default=100, ge=1, le=1000)
    """Attempts that this process makes at the same time."""

    slots_per_webhook: int = Field(default=4, ge=1, le=100)
    """Of these for one webhook: a slow one does not hold up the others."""

    look_seconds: float = Field(default=1, gt=0, le=60)
    """How often is looked for deliveries that are due."""
