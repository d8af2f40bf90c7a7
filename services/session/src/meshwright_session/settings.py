"""Settings of session: `MESHWRIGHT_SESSION__…`."""

from typing import ClassVar

from pydantic import Field

from meshwright_common.settings import CommonSettings, Section, ServiceName
from meshwright_session.context_settings import ContextSection
from meshwright_session.plan_settings import PlansSection
from meshwright_session.webhook_settings import WebhookSection


class SessionSection(Section):
    """What this service alone reads."""

    max_connections: int = Field(default=14, ge=6, le=100)
    """Connections to PostgreSQL; the event consumers and the wake-ups use up to seven of them."""

    partition_months_ahead: int = Field(default=3, ge=1, le=24)
    """Months after this one for which partitions of messages and usage are kept ready."""

    request_retention_hours: int = Field(default=24, ge=1, le=24 * 30)
    """How long a repeated request id is recognised."""

    notification_retention_days: int = Field(default=30, ge=1, le=3650)
    """How long notifications are kept, read or not."""

    notifications_per_user: int = Field(default=1000, ge=1, le=10_000)
    """How many notifications a user keeps: an older one is dropped for each new one."""

    notification_look_seconds: float = Field(default=5, gt=0, le=60)
    """How long whoever watches notifications waits at most for a new one, when its wake-up was
    lost."""

    erasure_settle_seconds: float = Field(default=100, ge=0, le=3600)
    """How long after a user or tenant was found gone the last look comes. Longer than what was
    under way can last: leases of work (30 s), and tokens of callers (60 s, and 30 s for clocks)."""

    erasure_lease_seconds: float = Field(default=15, ge=1, le=300)
    """After this, what a dead process was erasing is gone on with by another one."""

    erasure_poll_seconds: float = Field(default=1, gt=0, le=60)
    """How often is looked for erasures that are due."""

    erasure_retention_days: int = Field(default=180, ge=30, le=3650)
    """How long receipts can be read, and late events of erased users are known. Not shorter than
    events can be late."""

    message_retention_months: int = Field(default=24, ge=0, le=1200)
    """Whole months before this one for which messages are kept, archived ones too; older ones are
    dropped, and sessions that nobody has touched since. 0: all are kept for ever."""

    usage_retention_months: int = Field(default=24, ge=0, le=1200)
    """Whole months before this one for which single model calls are kept in the usage ledger. Sums
    of days stay. 0: all are kept for ever."""

    archive_after_days: int = Field(default=90, ge=0, le=36_500)
    """After so many days without a change a session's messages go to the archive, from which any
    use brings them back. 0: never."""

    summary_turns: int = Field(default=10, ge=1, le=100)
    """Turns that one summary covers. Fewer stay as they are until there are enough."""

    memories_per_user: int = Field(default=10_000, ge=100, le=100_000)
    """Memories that a user keeps: for each more one goes, those first that hold no longer."""

    memory_look_seconds: float = Field(default=2, gt=0, le=60)
    """How often memories are looked for whose index is not in line with them."""

    audit_retention_days: int = Field(default=180, ge=1, le=3650)
    """How long audit records are kept at least: whole months are dropped when all of theirs are
    older."""

    audit_checkpoint_seconds: float = Field(default=60, gt=0, le=3600)
    """Within this a new audit record is covered by a signed checkpoint."""

    audit_checkpoint_records: int = Field(default=1000, ge=1, le=100_000)
    """So many new audit records of a tenant get a checkpoint at once."""

    audit_look_seconds: float = Field(default=5, gt=0, le=60)
    """How often is looked for audit records that need a checkpoint."""

    housekeeping_interval_seconds: float = Field(default=3600, gt=0)
    """Pause between two rounds of housekeeping."""

    context: ContextSection = ContextSection()
    """Contexts, and the first two levels of memory."""

    webhooks: WebhookSection = WebhookSection()
    """How tenants' own servers are told what happens."""

    plans: PlansSection = PlansSection()
    """What tenants may use, by their plan."""


class Settings(CommonSettings):
    """Everything a session process reads."""

    service: ClassVar[ServiceName] = "session"

    session: SessionSection = SessionSection()
