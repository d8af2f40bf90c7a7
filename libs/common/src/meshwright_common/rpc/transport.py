"""How calls leave this process: plain or TLS, to one address or to many."""

from collections.abc import Sequence
from functools import partial
from typing import Final
from weakref import WeakSet

import grpc.aio

from meshwright_common.clock import Clock
from meshwright_common.registry.dns import DnsDiscovery, name_in
from meshwright_common.registry.ports import Discovery
from meshwright_common.registry.static import StaticDiscovery
from meshwright_common.rpc.balanced import BalancedChannel
from meshwright_common.rpc.limits import CHANNEL_OPTIONS, INSTANCE_OPTIONS
from meshwright_common.rpc.link_channel import LinkChannel
from meshwright_common.rpc.tls import TlsFiles

REGISTRY_SCHEME: Final = "consul:///"
LIST_SCHEME: Final = "static:///"

Options = Sequence[tuple[str, int | str]]


class Transport:
    """Opens channels for a whole process. With `tls` all are mutual TLS, each checks that it has
    reached the service it wants, and all are opened anew when the certificates are renewed. With
    `link`, calls to a process share one stream, if it knows how to.
    """

    def __init__(
        self,
        *,
        discovery: Discovery | None = None,
        tls: TlsFiles | None = None,
        link: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._discovery = discovery
        self._tls = tls
        self._link = link
        self._clock = clock
        self._balanced: WeakSet[BalancedChannel] = WeakSet()
        if tls is not None:
            tls.on_renewal(self._renew)

    @property
    def has_registry(self) -> bool:
        """Whether peers can be looked up by name."""
        return self._discovery is not None

    def connect(self, peer: str, target: str) -> grpc.aio.Channel:
        """Return a channel to the service `peer`, found at `target`.

        That is any target of gRPC, or `consul:///name` for the instances in the registry, or
        `static:///host:port,host:port`. Raises: ValueError when the target cannot be used.
        """
        if target.startswith(REGISTRY_SCHEME):
            if self._discovery is None:
                raise ValueError(f"peer {peer} is {target}, but no registry is configured")
            return self._balance(peer, target.removeprefix(REGISTRY_SCHEME), self._discovery)
        if target.startswith(LIST_SCHEME):
            addresses = target.removeprefix(LIST_SCHEME).split(",")
            wrong = [one for one in addresses if not one.rpartition(":")[2].isdecimal()]
            if wrong:
                raise ValueError(f"peer {peer}: {', '.join(wrong)!r} is no host:port")
            return self._balance(peer, peer, StaticDiscovery({peer: addresses}))
        if self._link and (named := name_in(target)) is not None:
            # A link leads to one process: each address of a name gets its own.
            return self._balance(peer, peer, DnsDiscovery(*named))
        if self._tls is not None or self._link:
            # A single one too: its connection can be renewed that way, or have its link made.
            return self._balance(peer, peer, StaticDiscovery({peer: [target]}))
        return self.open_channel(peer, target)

    def open_channel(
        self, peer: str, target: str, options: Options = CHANNEL_OPTIONS
    ) -> grpc.aio.Channel:
        """Return gRPC's own channel to `target`, where `peer` is expected."""
        if self._tls is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(
            target,
            self._tls.current.channel_credentials(),
            # Whoever answers must hold a certificate for the service, not for the host.
            options=(*options, ("grpc.ssl_target_name_override", peer)),
        )

    def _balance(self, peer: str, name: str, discovery: Discovery) -> BalancedChannel:
        channel = BalancedChannel(
            peer,
            partial(discovery.watch, name),
            partial(self._open_instance, peer),
            self._clock,
        )
        self._balanced.add(channel)
        return channel

    def _open_instance(self, peer: str, address: str) -> grpc.aio.Channel:
        channel = self.open_channel(peer, address, INSTANCE_OPTIONS)
        return LinkChannel(channel) if self._link else channel

    def _renew(self) -> None:
        for channel in tuple(self._balanced):
            channel.renew()
