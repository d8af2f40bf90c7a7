"""What `meshwright doctor` looks at between services: the registry and the certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from meshwright_cli.checks import Finding
from meshwright_cli.environment import PlatformSettings, has_registry
from meshwright_common.registry.consul_http import ConsulAway, ConsulClient
from meshwright_common.rpc.tls import SHARED_NAME, TlsFiles
from meshwright_common.settings import RegistrySettings, SettingsError, TlsSettings, load

LEAST_VALID: Final = timedelta(days=7)


async def check_mesh() -> list[Finding]:
    """Ask the registry, if there is one, and look at the certificates, if services use them."""
    try:
        settings = load(PlatformSettings)
    except SettingsError:
        return []  # said by check_settings
    findings = check_certificates(settings.tls) if settings.tls.enabled else []
    if has_registry(settings):
        findings.append(await check_registry(settings.registry))
    return findings


async def check_registry(settings: RegistrySettings) -> Finding:
    """Ask Consul how many instances of session it lists."""
    advice = "mend MESHWRIGHT_REGISTRY__URL, or start Consul; services go on with what they know"
    try:
        client = ConsulClient(settings.url, ca_file=settings.ca_file)
    except (ValueError, OSError) as error:
        return Finding("registry", str(error), advice)
    try:
        _, endpoints = await client.healthy(f"{settings.prefix}session", 0)
    except ConsulAway as error:
        return Finding("registry", f"Consul at {client.address}: {error}", advice)
    finally:
        await client.close()
    count = len(endpoints)
    return Finding("registry", f"Consul answers at {client.address}, {count} of session registered")


def check_certificates(settings: TlsSettings) -> list[Finding]:
    """Look whether the files fit together and are valid for a while."""
    advice = "renew them; `meshwright dev-certs` makes some for one machine"
    try:
        leaf = TlsFiles(settings, SHARED_NAME).current.leaf
    except SettingsError as error:
        return [Finding("certificates", str(error), advice)]
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    text = f"valid until {leaf.not_valid_after_utc.date()}"
    return [Finding("certificates", text, advice if left < LEAST_VALID else "")]
