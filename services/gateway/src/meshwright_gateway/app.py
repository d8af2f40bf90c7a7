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
from meshwright_common.rpc.channels import Channels
from meshwright_gateway.auth.credentials import Authenticator
from meshwright_gateway.http.agents import TaskStreams
from meshwright_gateway.http.api import make_framework
from meshwright_gateway.http.chat import ChatRoutes
from meshwright_gateway.http.docs import DocsRoutes
from meshwright_gateway.http.entry import Entry
from meshwright_gateway.http.health import HealthRoutes
from meshwright_gateway.http.knowledge import IndexingRoute
from meshwright_gateway.http.notifications import NotificationStream
from meshwright_gateway.http.openai_chat import OpenAiChatRoute
from meshwright_gateway.http.openapi import describe
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.http.routing import RawRoutes
from meshwright_gateway.http.uploads import UploadRoute
from meshwright_gateway.http.usage_export import UsageExportRoute
from meshwright_gateway.metrics import HTTP_CONNECTIONS, HTTP_LONG_ANSWERS
from meshwright_gateway.peers import Peers
from meshwright_gateway.server.serving import HttpServer, open_listener
from meshwright_gateway.settings import GatewaySection, Settings


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a built gateway."""

    server: HttpServer
    answers: LongAnswers
    readiness: "Readiness"

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
            ),
            drain=drain,
            leave=self.readiness.leave,
            address=f"{settings.host}:{settings.port}",
        )


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

    Raises: SettingsError when the address cannot be listened on; KeyFileError.
    """
    verifier = TokenVerifier(load_keys(settings.identity.keys_dir, ()).trusted)
    gateway = compose(settings.gateway, channels, verifier)
    try:
        yield gateway.app(settings.gateway)
    finally:
        gateway.server.close()


def compose(settings: GatewaySection, channels: Channels, verifier: TokenVerifier) -> Gateway:
    """Put a gateway together over the channels of the process. Raises: SettingsError."""
    clock = SystemClock()
    peers = Peers.over(channels)
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
    entry = Entry(
        open_routes=_open_routes(
            HealthRoutes(readiness.is_ready, authenticator),
            DocsRoutes(partial(describe, framework)),
        ),
        routes=_routes(
            ChatRoutes(peers, answers, settings),
            OpenAiChatRoute(peers, answers, settings, clock),
            TaskStreams(peers, answers, settings),
            UploadRoute(peers, settings),
            IndexingRoute(peers, answers),
            UsageExportRoute(peers, answers),
            NotificationStream(peers, answers),
        ),
        framework=framework,
        authenticator=authenticator,
        settings=settings,
        denials=channels.denials,
    )
    server = HttpServer(entry, open_listener(settings.host, settings.port), settings)
    HTTP_LONG_ANSWERS.set_function(lambda: answers.count)
    HTTP_CONNECTIONS.set_function(lambda: server.connection_count)
    return Gateway(server, answers, readiness)


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
    routes.add_with_parameter("GET", "/api/v1/tasks/{task_id}/events", tasks.events)
    routes.add_with_parameter("GET", "/api/v1/documents/{document_id}/events", indexing.events)
    routes.add_with_parameter(
        "POST", "/api/v1/knowledge-bases/{knowledge_base_id}/documents", uploads.upload, shared=True
    )
    return routes


def _open_routes(health: HealthRoutes, docs: DocsRoutes) -> RawRoutes:
    routes = RawRoutes()
    for method in ("GET", "HEAD"):
        routes.add(method, "/health/live", health.live)
        routes.add(method, "/health/ready", health.ready)
    routes.add("GET", "/metrics", health.metrics)
    routes.add("GET", "/openapi.json", docs.openapi)
    routes.add("GET", "/docs", docs.page)
    routes.add_with_parameter("GET", "/docs/{file}", docs.file)
    return routes


def _register_nothing(server: grpc.aio.Server) -> None:
    """The gateway serves HTTP only."""
