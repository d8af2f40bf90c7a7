"""The gateway's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import grpc.aio

from meshwright_common.app import App, BackgroundTask
from meshwright_common.clock import SystemClock
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.quotas import Quotas
from meshwright_common.resilience.adaptive_limit import AdaptiveLimit
from meshwright_common.rpc.channels import Channels
from meshwright_common.settings import QuotaSettings
from meshwright_common.storage.redis import open_redis
from meshwright_gateway.adapters.redis_counters import RedisCounters
from meshwright_gateway.auth.credentials import Authenticator
from meshwright_gateway.http.agents import TaskStreams
from meshwright_gateway.http.api import make_framework
from meshwright_gateway.http.chat import ChatRoutes
from meshwright_gateway.http.console import ConsoleRoutes
from meshwright_gateway.http.docs import DocsRoutes
from meshwright_gateway.http.entry import Entry
from meshwright_gateway.http.health import HealthRoutes
from meshwright_gateway.http.knowledge import IndexingRoute
from meshwright_gateway.http.mcp import McpStream
from meshwright_gateway.http.notifications import NotificationStream
from meshwright_gateway.http.openai_chat import OpenAiChatRoute
from meshwright_gateway.http.openapi import describe
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.http.routing import RawRoutes
from meshwright_gateway.http.uploads import UploadRoute
from meshwright_gateway.http.usage_export import UsageExportRoute
from meshwright_gateway.limits.client_address import ClientAddresses
from meshwright_gateway.limits.counters import Counters
from meshwright_gateway.limits.edge_limits import EdgeLimits
from meshwright_gateway.limits.limit_file import LimitFile
from meshwright_gateway.limits.limit_settings import networks
from meshwright_gateway.limits.load_shedding import LoadShedding
from meshwright_gateway.limits.local_counters import LocalCounters
from meshwright_gateway.limits.request_limits import RequestLimits
from meshwright_gateway.metrics import (
    HTTP_CONNECTIONS,
    HTTP_LONG_ANSWERS,
    LOAD_LIMIT,
    LOAD_RUNNING,
)
from meshwright_gateway.peers import Peers
from meshwright_gateway.server.serving import HttpServer, open_listener
from meshwright_gateway.settings import GatewaySection, Settings
from meshwright_gateway.websocket.handshake import WebSocketRoute


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a built gateway."""

    server: HttpServer
    answers: LongAnswers
    readiness: "Readiness"
    limits: EdgeLimits
    limit_file: LimitFile

    def app(self, settings: GatewaySection) -> App:
        """Return what the runner needs."""

        async def drain() -> None:
            await self.answers.drain(settings.drain_seconds)

        return App(
            name="gateway",
            register=_register_nothing,
            tasks=(
                BackgroundTask("http", self.server.run, self.server.stop),
                BackgroundTask("heartbeats", self.answers.keep_alive),
                BackgroundTask("credential-checks", self.answers.recheck),
                BackgroundTask("limits", self.limits.requests.keep),
                BackgroundTask("load", self.limits.load.watch),
                *self._watching(),
            ),
            drain=drain,
            leave=self.readiness.leave,
            address=f"{settings.host}:{settings.port}",
        )

    def _watching(self) -> tuple[BackgroundTask, ...]:
        if not self.limit_file.is_there:
            return ()
        return (BackgroundTask("limits-file", partial(self.limit_file.watch, self.limits.use)),)


class Readiness:
    """Whether new requests should come here."""

    def __init__(self) -> None:
        self._leaving = False

    def leave(self) -> None:
        """Say that they should not, from now on."""
        self._leaving = True

    def is_ready(self) -> bool:
        """Return whether they should."""
        return not self._leaving


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the gateway. It listens from now on, and answers when its tasks run.

    Raises: SettingsError when the address cannot be listened on, or the file of the limits cannot
    be used; KeyFileError.
    """
    verifier = TokenVerifier(load_keys(settings.identity.keys_dir, ()).trusted)
    # The limits ask for many requests at once, and no second time while they wait.
    async with open_redis(settings.redis, one_at_a_time=True) as redis:
        counters = RedisCounters(redis, new_id())
        gateway = compose(
            settings.gateway, channels, verifier, counters=counters, quotas=settings.quotas
        )
        try:
            yield gateway.app(settings.gateway)
        finally:
            gateway.server.close()
            await gateway.limits.requests.close()


def compose(
    settings: GatewaySection,
    channels: Channels,
    verifier: TokenVerifier,
    *,
    counters: Counters | None = None,
    quotas: QuotaSettings | None = None,
) -> Gateway:
    """Put a gateway together over the channels of the process. Raises: SettingsError.

    Without `counters` that gateways share, this one counts alone.
    """
    clock = SystemClock()
    peers = Peers.over(channels)
    limit_file = LimitFile(settings.limits)
    load = LoadShedding(
        AdaptiveLimit(
            least=settings.load.least,
            most=settings.load.most,
            target_seconds=settings.load.target_seconds,
        )
    )
    limits = EdgeLimits(
        limit_file.first(),
        requests=RequestLimits(
            counters,
            LocalCounters(clock, settings.limits.replicas),
            clock,
            timeout_seconds=settings.limits.redis_timeout_seconds,
        ),
        load=load,
        addresses=ClientAddresses(networks(settings.trusted_proxies)),
        quotas=Quotas(peers.directory, "gateway", quotas or QuotaSettings(), clock),
        clock=clock,
    )
    authenticator = Authenticator(
        peers.directory,
        verifier,
        clock,
        key_seconds=settings.key_cache_seconds,
        refusal_seconds=settings.key_refusal_cache_seconds,
    )
    answers = LongAnswers(
        authenticator,
        heartbeat_seconds=settings.heartbeat_seconds,
        recheck_seconds=settings.recheck_seconds,
    )
    readiness = Readiness()
    framework = make_framework(peers, channels.tokens)
    routes = _routes(
        ChatRoutes(peers, answers, settings),
        OpenAiChatRoute(peers, answers, settings, clock),
        TaskStreams(peers, answers, settings),
        UploadRoute(peers, settings),
        IndexingRoute(peers, answers),
        UsageExportRoute(peers, answers),
        NotificationStream(peers, answers),
    )
    routes.add("GET", "/api/v1/mcp/stream", McpStream(peers, answers).follow)
    routes.add("GET", "/api/v1/ws", WebSocketRoute(peers, answers, limits, settings).serve)
    entry = Entry(
        open_routes=_open_routes(
            HealthRoutes(readiness.is_ready, authenticator),
            DocsRoutes(partial(describe, framework)),
            ConsoleRoutes(),
        ),
        routes=routes,
        framework=framework,
        authenticator=authenticator,
        settings=settings,
        denials=channels.denials,
        limits=limits,
    )
    server = HttpServer(entry, open_listener(settings.host, settings.port), settings)
    HTTP_LONG_ANSWERS.set_function(lambda: answers.count)
    HTTP_CONNECTIONS.set_function(lambda: server.connection_count)
    LOAD_RUNNING.set_function(lambda: load.running)
    LOAD_LIMIT.set(load.limit.value)
    return Gateway(server, answers, readiness, limits, limit_file)


def _routes(
    chat: ChatRoutes,
    openai: OpenAiChatRoute,
    tasks: TaskStreams,
    uploads: UploadRoute,
    indexing: IndexingRoute,
    usage: UsageExportRoute,
    notifications: NotificationStream,
) -> RawRoutes:
    routes = RawRoutes()
    routes.add("POST", "/api/v1/chat", chat.chat)
    routes.add("POST", "/v1/chat/completions", openai.complete)
    routes.add("POST", "/api/v1/agents/execute", tasks.execute)
    routes.add("GET", "/api/v1/usage/export", usage.export)
    routes.add("GET", "/api/v1/notifications/stream", notifications.follow)
    routes.add_with_parameter("GET", "/api/v1/turns/{turn_id}/events", chat.events)
    routes.add_with_parameter("POST", "/api/v1/turns/{turn_id}/regenerate", chat.regenerate)
    routes.add_with_parameter("GET", "/api/v1/tasks/{task_id}/events", tasks.events)
    routes.add_with_parameter("GET", "/api/v1/documents/{document_id}/events", indexing.events)
    routes.add_with_parameter(
        "POST", "/api/v1/knowledge-bases/{knowledge_base_id}/documents", uploads.upload, shared=True
    )
    return routes


def _open_routes(health: HealthRoutes, docs: DocsRoutes, console: ConsoleRoutes) -> RawRoutes:
    routes = RawRoutes()
    for method in ("GET", "HEAD"):
        routes.add(method, "/health/live", health.live)
        routes.add(method, "/health/ready", health.ready)
    routes.add("GET", "/metrics", health.metrics)
    routes.add("GET", "/openapi.json", docs.openapi)
    routes.add("GET", "/docs", docs.page)
    routes.add_with_parameter("GET", "/docs/{file}", docs.file)
    routes.add("GET", "/console", console.page)
    routes.add("GET", "/console/", console.page)
    routes.add_with_parameter("GET", "/console/{file}", console.file)
    return routes


def _register_nothing(server: grpc.aio.Server) -> None:
    """The gateway serves HTTP only."""
