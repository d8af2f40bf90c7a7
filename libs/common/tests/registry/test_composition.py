"""The registry that the settings name (feature P2), and its link over TLS."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import aiohttp.web
import pytest

from meshwright_common.identity.certificates import write_certificates
from meshwright_common.registry.composition import registry_for
from meshwright_common.registry.consul import ConsulRegistrar
from meshwright_common.registry.consul_http import ConsulAway, ConsulClient
from meshwright_common.registry.static import StaticRegistrar
from meshwright_common.settings import RegistrySettings, SettingsError

pytestmark = pytest.mark.asyncio


async def test_without_a_registry_nothing_is_announced_or_watched() -> None:
    """P2: static addresses when there is no Consul."""
    registry = registry_for(RegistrySettings(), listen="127.0.0.1:0", weigh=lambda: 1)
    assert isinstance(registry.registrar, StaticRegistrar)
    assert registry.discovery is None
    await registry.close()


async def test_consul_is_asked_nothing_before_somebody_wants_to_know() -> None:
    """A process starts whether or not there is an agent."""
    settings = RegistrySettings(url="consul://127.0.0.1:1")
    registry = registry_for(settings, listen="127.0.0.1:0", weigh=lambda: 1)
    assert isinstance(registry.registrar, ConsulRegistrar)
    assert registry.discovery is not None
    await registry.close()


@pytest.mark.parametrize(
    ("settings", "listen", "variable"),
    [
        (RegistrySettings(url="consul://agent:8500"), "0.0.0.0:50051", "ADVERTISE"),
        (RegistrySettings(url="consul://agent:8500"), "[::]:50051", "ADVERTISE"),
        (RegistrySettings(url="consul://"), "127.0.0.1:0", "URL"),
        (RegistrySettings(url="consul://agent:99999"), "127.0.0.1:0", "URL"),
        (
            RegistrySettings(url="consul+tls://agent", ca_file=Path("/nowhere.crt")),
            "127.0.0.1:0",
            "URL",
        ),
    ],
)
async def test_what_cannot_be_used_is_named(
    settings: RegistrySettings, listen: str, variable: str
) -> None:
    """Configuration is checked at the start, by the name of the variable (P6)."""
    with pytest.raises(SettingsError, match=f"MESHWRIGHT_REGISTRY__{variable}"):
        registry_for(settings, listen=listen, weigh=lambda: 1)


async def test_an_agent_over_tls_is_believed_by_its_authority_alone(tmp_path: Path) -> None:
    """S-30: an agent that another authority vouches for is none of ours. The agent is a stub."""

    async def answer(_request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=b"[]", headers={"X-Consul-Index": "7"})

    for name in ("ours", "other"):
        write_certificates(tmp_path / name, ["agent"], timedelta(days=1), shared_name="all")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "ours" / "agent.crt", tmp_path / "ours" / "agent.key")
    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(answer))
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"consul+tls://localhost:{runner.addresses[0][1]}"
    try:
        ours = ConsulClient(url, ca_file=tmp_path / "ours" / "ca.crt")
        assert (7, ()) == await ours.healthy("rag", 0)
        await ours.close()
        for ca_file in (tmp_path / "other" / "ca.crt", None):
            stranger = ConsulClient(url, ca_file=ca_file)
            with pytest.raises(ConsulAway):
                await stranger.healthy("rag", 0)
            await stranger.close()
    finally:
        await runner.cleanup()
