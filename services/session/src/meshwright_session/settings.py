"""Settings of session: `MESHWRIGHT_SESSION__…`."""

from typing import ClassVar

from pydantic import Field

from meshwright_common.settings import CommonSettings, Section, ServiceName


class SessionSection(Section):
    """What this service alone reads."""

    max_connections: int = Field(default=10, ge=3, le=100)
    """Connections to PostgreSQL; the event consumer uses up to three of them."""

    partition_months_ahead: int = Field(default=3, ge=1, le=24)
    """Months after this one for which partitions of messages and usage are kept ready."""

    request_retention_hours: int = Field(default=24, ge=1, le=24 * 30)
    """How long a repeated request id is recognised."""

    housekeeping_interval_seconds: float = Field(default=3600, gt=0)
    """Pause between two rounds of housekeeping."""


class Settings(CommonSettings):
    """Everything a session process reads."""

    service: ClassVar[ServiceName] = "session"

    session: SessionSection = SessionSection()
