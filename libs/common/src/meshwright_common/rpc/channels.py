"""Which channel leads to which service."""

from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

import grpc.aio

from meshwright_common.clock import Clock, SystemClock
from meshwright_common.identity.denials import Denials
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.registry.static import target_of
from meshwright_common.resilience.retry_budget import RetryBudgets
from meshwright_common.rpc.limits import OUTSIDE_OPTIONS
from meshwright_common.rpc.local import LocalChannel
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.rpc.transport import Transport

Peer = Literal["session", "model-router", "tool-exec", "rag", "orchestrator", "chat"]


class Channels:
    """The channels of one service. `tokens` signs in its name; the gateway hands some out.

    `denials` is where the service notes whom it refuses; the process reports that. `retry_budgets`
    say how much the process may repeat, by whatever it calls; all its services share them.

    A peer whose target is `local:` is called in this process, any other over gRPC by `transport`.
    Peers without a target are looked up in its registry if it has one, else in DNS. With
    `copy_messages`, for tests, messages are serialised and parsed inside the process too.
    """

    def __init__(
        self,
        tokens: TokenMinter,
        peers: Mapping[str, str] | None = None,
        *,
        local_server: LocalServer | None = None,
        transport: Transport | None = None,
        copy_messages: bool = False,
        deadlines: Mapping[str, float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.tokens = tokens
        self.denials = Denials()
        self.retry_budgets = RetryBudgets(clock)
        self._peers = peers or {}
        self._local_server = local_server
        self._transport = transport or Transport()
        self._copy_messages = copy_messages
        self._deadlines = deadlines or {}
        self._clock = clock or SystemClock()
        self._open: dict[Peer, PolicyChannel] = {}

    def open(self, peer: Peer) -> PolicyChannel:
        """Return the channel to `peer` for generated stubs; always the same one.

        gRPC connects with the first call, a channel over several instances at once. Raises:
        ValueError when the target cannot be used: it is `local:` and this process serves nothing,
        or in a registry that there is none of.
        """
        channel = self._open.get(peer)
        if channel is None:
            policy = CallPolicy(peer, self.tokens.token_for, self._deadlines)
            budget = self.retry_budgets.of(peer)
            channel = PolicyChannel(self._connect(peer), policy, self._clock, budget)
            self._open[peer] = channel
        return channel

    def outside(self, name: str, target: str, deadlines: Mapping[str, float]) -> PolicyChannel:
        """Return a new channel to a program that is none of ours, for the caller to close.

        With mutual TLS the program has a certificate of the mesh's authority for `name`.
        `deadlines` are seconds by method path. Who may be called there, the caller has judged.
        """
        policy = CallPolicy(name, self.tokens.token_for, deadlines)
        channel = self._transport.open_channel(name, target, OUTSIDE_OPTIONS)
        return PolicyChannel(channel, policy, self._clock)

    def _connect(self, peer: Peer) -> grpc.aio.Channel:
        target = target_of(peer, self._peers, watched=self._transport.has_registry)
        if target != "local:":
            return self._transport.connect(peer, target)
        if self._local_server is None:
            raise ValueError(f"peer {peer} is local:, but this process has no local server")
        return LocalChannel(self._local_server, copy_messages=self._copy_messages)

    async def close(self, grace: float | None = None) -> None:
        """Close every channel; calls under way get `grace` seconds."""
        for channel in self._open.values():
            await channel.close(grace)
        self._open.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
