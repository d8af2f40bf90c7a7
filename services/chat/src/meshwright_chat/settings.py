"""Settings of chat: `MESHWRIGHT_CHAT__…`."""

from typing import ClassVar

from pydantic import Field

from meshwright_common.settings import CommonSettings, Section, ServiceName


class ChatSection(Section):
    """What this service alone reads."""

    turn_lease_seconds: float = Field(default=10, ge=3, le=120)
    """A turn whose process is silent for this long is taken over by another."""

    lease_renew_seconds: float = Field(default=3, ge=0.5, le=40)
    """How often leases are renewed: less than a third of the lease."""

    sweep_seconds: float = Field(default=2, ge=0.2, le=60)
    """How often lost turns are looked for."""

    suspension_seconds: float = Field(default=5, ge=0.2, le=20)
    """How often it is looked whether the tenants of running turns are suspended."""

    queued_turns: int = Field(default=8, ge=1, le=100)
    """Most turns that wait for others in one session."""

    queue_seconds: float = Field(default=600, ge=1, le=24 * 3600)
    """How long a turn waits for others of its session before it fails."""

    drain_seconds: float = Field(default=20, ge=0, le=300)
    """How long running turns may go on after SIGTERM before another process takes them over."""


class Settings(CommonSettings):
    """Everything a chat process reads."""

    service: ClassVar[ServiceName] = "chat"

    chat: ChatSection = ChatSection()
