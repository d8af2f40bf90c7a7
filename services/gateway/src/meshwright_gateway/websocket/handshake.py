"""The route of the WebSocket: from a request to an open socket."""

from collections.abc import Sequence
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from meshwright_common.errors import InvalidArgument, Unauthenticated
from meshwright_gateway.errors import OriginRefused, UpgradeRequired
from meshwright_gateway.http.exchange import API_HEADERS, Exchange
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.limits.edge_limits import EdgeLimits
from meshwright_gateway.peers import Peers
from meshwright_gateway.server.connection import SCOPE_KEY
from meshwright_gateway.server.upgrade import UpgradableConnection
from meshwright_gateway.settings import GatewaySection
from meshwright_gateway.websocket.admission import Admission
from meshwright_gateway.websocket.session import SocketSession
from meshwright_gateway.websocket.streams import Streams
from meshwright_gateway.websocket.wire import SocketWire

SUBPROTOCOL: Final = Subprotocol("meshwright.v1")
_SWITCHING: Final = 101


class WebSocketRoute:
    """Opens sockets, whose callers were let in as those of any request."""

    def __init__(
        self, peers: Peers, answers: LongAnswers, limits: EdgeLimits, settings: GatewaySection
    ) -> None:
        self._peers = peers
        self._answers = answers
        self._limits = limits
        self._settings = settings
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)

    async def serve(self, exchange: Exchange) -> None:
        """Answer 101 and serve the socket until it closes.

        Raises: OriginRefused, UpgradeRequired, InvalidArgument for a handshake that is not
        RFC 6455's; Unavailable when this process is about to stop.
        """
        settings = self._settings
        origin = exchange.headers.get(b"origin")
        if origin is not None and origin not in self._origins:
            raise OriginRefused(origin=origin[:200].decode("latin-1"))
        if exchange.credential is None:
            raise Unauthenticated("a socket needs a credential")
        self._answers.refuse_when_leaving()
        head = _head(exchange)
        connection: UpgradableConnection = exchange.scope["extensions"][SCOPE_KEY]
        wire = SocketWire(
            ServerProtocol(state=OPEN, max_size=settings.websocket_message_bytes),
            exchange,
            connection,
            ping_seconds=settings.websocket_ping_seconds,
            silence_seconds=settings.websocket_silence_seconds,
        )
        admission = Admission(self._limits, exchange, exchange.credential.principal)
        session = SocketSession(
            exchange,
            self._answers,
            wire,
            Streams(self._peers, wire, admission),
            admission,
            most_conversations=settings.websocket_conversations,
        )
        exchange.switched(_SWITCHING)
        wire.open(head)
        await session.run()


def _head(exchange: Exchange) -> bytes:
    """Return the answer that opens the socket. Raises: UpgradeRequired, InvalidArgument."""
    # Compression is not offered: it costs memory for each socket, and mixes secrets with text.
    protocol = ServerProtocol(subprotocols=[SUBPROTOCOL], select_subprotocol=_select)
    headers = Headers()
    for name, value in exchange.scope["headers"]:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    version = exchange.scope["http_version"]
    response = protocol.accept(Request(exchange.path, headers, protocol=f"HTTP/{version}"))
    if response.status_code != _SWITCHING:
        if response.status_code == UpgradeRequired.http_status:
            exchange.headers_out.append((b"upgrade", b"websocket"))
            raise UpgradeRequired(f"this path is a WebSocket: {protocol.handshake_exc}")
        raise InvalidArgument(f"this is no handshake of a WebSocket: {protocol.handshake_exc}")
    for name, value in [*API_HEADERS, *exchange.headers_out]:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response.serialize()


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # What carries a credential is never repeated, so it cannot be chosen.
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
