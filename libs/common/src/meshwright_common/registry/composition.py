"""The registry that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass

from meshwright_common.registry.consul import ConsulDiscovery, ConsulRegistrar
from meshwright_common.registry.consul_http import ConsulClient
from meshwright_common.registry.ports import EVERY_ADDRESS, Registrar
from meshwright_common.registry.static import StaticRegistrar
from meshwright_common.settings import RegistrySettings, SettingsError


@dataclass(frozen=True, slots=True)
class Registry:
    """Both sides of a registry. Without `discovery`, peers are known from the settings alone."""

    registrar: Registrar
    discovery: ConsulDiscovery | None = None
    client: ConsulClient | None = None

    async def close(self) -> None:
        """Stop watching, and close the connections."""
        if self.discovery is not None:
            await self.discovery.close()
        if self.client is not None:
            await self.client.close()


def registry_for(
    settings: RegistrySettings,
    *,
    listen: str,
    weigh: Callable[[], int],
    tags: tuple[str, ...] = (),
) -> Registry:
    """Return the registry of the settings, for a process that listens on `listen`.

    `weigh` returns its weight. Nothing is asked yet. Raises: SettingsError naming the variable to
    mend.
    """
    if settings.url.startswith("static:"):
        return Registry(StaticRegistrar())
    if not settings.advertise and listen.rpartition(":")[0] in EVERY_ADDRESS:
        raise SettingsError(
            "MESHWRIGHT_REGISTRY__ADVERTISE: needs the host that others reach this process by, "
            f"because it listens on {listen}"
        )
    try:
        client = ConsulClient(settings.url, ca_file=settings.ca_file)
    except (ValueError, OSError) as error:
        raise SettingsError(f"MESHWRIGHT_REGISTRY__URL: {error}") from None
    registrar = ConsulRegistrar(
        client, prefix=settings.prefix, advertise=settings.advertise, tags=tags, weigh=weigh
    )
    return Registry(registrar, ConsulDiscovery(client, prefix=settings.prefix), client)
