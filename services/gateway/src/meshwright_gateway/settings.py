"""Settings of the gateway: `MESHWRIGHT_GATEWAY__…`."""

import re
from typing import ClassVar, Final

from pydantic import Field, field_validator

from meshwright_common.settings import CommonSettings, Section, ServiceName
from meshwright_gateway.limits.limit_settings import LimitsSection, LoadSection, networks

KIB: Final = 1024
MIB: Final = 1024 * 1024

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


class GatewaySection(Section):
    """What this service alone reads. Sizes are bytes, times are seconds."""

    host: str = "127.0.0.1"
    """Address to listen on. Put TLS in front of any other than loopback."""

    port: int = Field(default=8080, ge=0, le=65_535)
    """Port to listen on; 0: any free one."""

    limits: LimitsSection = LimitsSection()
    """How many requests are let in."""

    trusted_proxies: tuple[str, ...] = Field(default=(), max_length=100)
    """Networks, as 10.0.0.0/8, whose `X-Forwarded-For` is believed. None: the connection counts."""

    load: LoadSection = LoadSection()
    """How much is taken on at the same time."""

    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the API, exactly as browsers send them. None: no pages."""

    max_connections: int = Field(default=10_000, ge=1)
    """Connections at the same time; one more is answered 503."""

    header_limit_bytes: int = Field(default=16 * KIB, ge=KIB, le=64 * KIB)
    """Request line and headers together."""

    json_limit_bytes: int = Field(default=MIB, ge=KIB, le=4 * MIB)
    """Body of every JSON request but chat completions."""

    completion_limit_bytes: int = Field(default=4 * MIB, ge=KIB, le=4 * MIB)
    """Body of a chat completion, which may carry images."""

    upload_limit_bytes: int = Field(default=50 * MIB, ge=1, le=50 * MIB)
    """Bytes of one uploaded document."""

    upload_part_limit: int = Field(default=20, ge=1, le=100)
    """Parts of a multipart upload."""

    header_timeout_seconds: float = Field(default=10, gt=0)
    """From a connection, or the first byte of a further request, to the end of the headers."""

    body_min_bytes_per_second: int = Field(default=KIB, ge=1)
    """A slower sender of a body is cut off."""

    body_timeout_seconds: float = Field(default=60, gt=0)
    """For the whole of a JSON body."""

    keep_alive_seconds: int = Field(default=10, ge=1)
    """An idle connection is closed after this time."""

    slow_reader_seconds: float = Field(default=10, gt=0)
    """A client that takes nothing for so long, while something waits for it, is cut off."""

    heartbeat_seconds: float = Field(default=15, gt=0)
    """A stream with nothing to say sends a comment this often."""

    recheck_seconds: float = Field(default=20, gt=0, le=25)
    """How often the credential behind an open stream is checked again."""

    websocket_ping_seconds: float = Field(default=30, gt=0)
    """A WebSocket over which nothing came for so long is asked for a sign of life."""

    websocket_silence_seconds: float = Field(default=60, gt=0)
    """A WebSocket over which nothing came for so long is closed."""

    websocket_message_bytes: int = Field(default=MIB, ge=KIB, le=4 * MIB)
    """A longer message of a client closes its WebSocket, with code 1009."""

    websocket_conversations: int = Field(default=32, ge=1, le=1000)
    """Conversations open on one WebSocket at the same time."""

    request_timeout_seconds: float = Field(default=30, gt=0)
    """For a request that is no stream and no upload."""

    upload_timeout_seconds: float = Field(default=300, gt=0)
    """For one upload."""

    drain_seconds: float = Field(default=20, ge=0)
    """How long running requests and streams may go on when the process stops."""

    key_cache_seconds: float = Field(default=5, ge=0, le=5)
    """How long an accepted credential is not asked for again: a revoked one works no longer."""

    key_refusal_cache_seconds: float = Field(default=1, ge=0, le=1)
    """How long a refused API key stays refused without asking."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        networks(texts)
        return texts

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin: write it as https://app.example.com, "
                    "lower-case, without a path; * is refused"
                )
        return origins


class Settings(CommonSettings):
    """Everything a gateway process reads."""

    service: ClassVar[ServiceName] = "gateway"

    gateway: GatewaySection = GatewaySection()
