"""Where Kafka is and how to log in, from its URL."""

from __future__ import annotations

import ssl
from typing import Final, TypedDict
from urllib.parse import unquote

from meshwright_common.settings import EventSettings, SettingsError

PLAIN: Final = "kafka://"
TLS: Final = "kafka+tls://"


class Connecting(TypedDict, total=False):
    """The arguments that every client of the driver takes."""

    bootstrap_servers: list[str]
    security_protocol: str
    ssl_context: ssl.SSLContext
    sasl_mechanism: str
    sasl_plain_username: str
    sasl_plain_password: str


def connecting(settings: EventSettings) -> Connecting:
    """Return how to reach the brokers of `settings.url`, a `kafka://` or `kafka+tls://` URL.

    Raises: SettingsError when it names no broker, when it has a login without TLS, or when
    `ca_file` cannot be read.
    """
    scheme = TLS if settings.url.startswith(TLS) else PLAIN
    login, _, hosts = settings.url.removeprefix(scheme).rpartition("@")
    servers = [host.strip("/ ") for host in hosts.split(",") if host.strip("/ ")]
    if not servers or not all(_is_address(server) for server in servers):
        raise SettingsError("MESHWRIGHT_EVENTS__URL: must name brokers as host:port,host:port")
    known = Connecting(bootstrap_servers=servers)
    if scheme == PLAIN:
        if login:
            raise SettingsError(f"MESHWRIGHT_EVENTS__URL: a password travels by {TLS} only")
        return known
    known["ssl_context"] = _context(settings)
    known["security_protocol"] = "SASL_SSL" if login else "SSL"
    if login:
        user, _, password = login.partition(":")
        known["sasl_mechanism"] = "SCRAM-SHA-512"
        known["sasl_plain_username"] = unquote(user)
        known["sasl_plain_password"] = unquote(password)
    return known


def _is_address(server: str) -> bool:
    host, _, port = server.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _context(settings: EventSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(
            cafile=str(settings.ca_file) if settings.ca_file is not None else None
        )
    except OSError as error:
        raise SettingsError(
            f"MESHWRIGHT_EVENTS__CA_FILE: cannot read {settings.ca_file}: {error}"
        ) from None
