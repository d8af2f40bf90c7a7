"""Where tenants' deployments may go, and whose keys they may take there.

A key is bound to the hosts that it is for: naming it beside another address sends it nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from meshwright_model_router.domain.errors import ProviderCredentials
from meshwright_model_router.domain.routing_errors import EgressRefused

_PORTS: Final = {"http": 80, "https": 443}
EVERY_TENANT: Final = "*"


@dataclass(frozen=True, slots=True)
class Credential:
    """A key of the operator. `hosts` are `host:port`; `tenants` may name it, `*` is all of them.

    The operator's own deployments take it at its hosts, whoever calls.
    """

    name: str
    secret: str = field(repr=False)
    hosts: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()

    def allows(self, tenant_id: str) -> bool:
        """Return whether a tenant may name it in deployments of its own."""
        return tenant_id in self.tenants or EVERY_TENANT in self.tenants


@dataclass(frozen=True, slots=True)
class Place:
    """The part of an address that counts: host in lower case and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Place":
        """Return the place of an absolute URL of http or https."""
        parts = urlsplit(url)
        return cls(parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme])

    @property
    def address(self) -> str:
        """`host:port`, as lists of hosts have it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Permits:
    """What the operator lets tenants' deployments do.

    `hosts` are `host:port` of public addresses, or `*.domain:port` for every host below a domain;
    `private_hosts` are `host:port` of the operator's own network, also without TLS.
    """

    hosts: frozenset[str] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    credentials: Mapping[str, Credential] = field(default_factory=dict)

    def check(self, tenant_id: str, base_url: str, credential_name: str) -> str:
        """Return the key for an address that a tenant's deployment may go to; "" without one.

        Raises: EgressRefused, ProviderCredentials.
        """
        place = Place.of(base_url)
        if not self.is_private(place):
            self._check_public(place)
        return self._key(tenant_id, place, credential_name)

    def is_private(self, place: Place) -> bool:
        """Return whether the operator lets deployments go there wherever it lies."""
        return place.address in self.private_hosts

    def _check_public(self, place: Place) -> None:
        _, _, domain = place.host.partition(".")
        named = {place.address, *(f"*.{one}:{place.port}" for one in _domains(domain))}
        if not named & self.hosts:
            raise EgressRefused(
                f"The operator's configuration allows no deployments at {place.address}.",
                host=place.host,
            )
        if place.scheme != "https":
            raise EgressRefused("The address must be one of https.", host=place.host)

    def _key(self, tenant_id: str, place: Place, name: str) -> str:
        if not name:
            return ""
        credential = self.credentials.get(name)
        # A credential of others is as good as none: its name tells nothing.
        if credential is None or not credential.allows(tenant_id):
            raise ProviderCredentials(
                f"credential_name: the operator's configuration has no {name!r} for this tenant.",
                credential_name=name,
            )
        if place.address not in credential.hosts:
            raise ProviderCredentials(
                f"credential_name: {name!r} is not for {place.address}.", credential_name=name
            )
        return credential.secret


def _domains(domain: str) -> list[str]:
    """Return a domain and all that it lies below, such as a.example.com and example.com."""
    labels = domain.split(".") if domain else []
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]
