"""Mutual TLS between services: the files, their reload, and what gRPC makes of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from meshwright_common.settings import SERVICE_NAMES, SettingsError, TlsSettings
from meshwright_common.telemetry.logging import get_logger

T = TypeVar("T")

SHARED_NAME: Final = "meshwright"
"""Fills `{service}` in the names of files for a process that is not one service alone."""
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Whom we trust, and who we are: PEM."""

    ca: bytes
    certificate: bytes
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        """Our own certificate; the chain may go on after it."""
        return x509.load_pem_x509_certificate(self.certificate)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel is opened with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def server_configuration(self) -> Any:
        """Return what a server presents, and whom it lets in."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.ca)


class TlsFiles:
    """The three files of the settings, as the process `name` uses them; read now and again.

    Files that do not fit together, as while they are being replaced, are not taken: what was good
    before stays. Raises: SettingsError naming the variable whose file cannot be used.
    """

    def __init__(self, settings: TlsSettings, name: str) -> None:
        service = name if name in SERVICE_NAMES else SHARED_NAME
        self._paths = tuple(
            _filled(path, service)
            for path in (settings.ca_file, settings.certificate_file, settings.key_file)
        )
        self._reload_seconds = settings.reload_seconds
        self._renewed: list[Callable[[], None]] = []
        self._refused = ""
        try:
            self.current = self._read()
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def on_renewal(self, renewed: Callable[[], None]) -> None:
        """Call `renewed` after each change, from the task that watches."""
        self._renewed.append(renewed)

    def look(self) -> bool:
        """Read the files again. Returns whether there are new ones and they are good."""
        try:
            found = self._read()
        except ValueError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _logger.error("certificates_refused", error=str(error))
            return False
        self._refused = ""
        if found == self.current:
            return False
        self.current = found
        leaf = found.leaf
        _logger.info(
            "certificates_renewed",
            serial=f"{leaf.serial_number:x}",
            valid_until=leaf.not_valid_after_utc.isoformat(),
        )
        return True

    async def watch(self) -> None:
        """Look every `reload_seconds`, until cancelled."""
        while True:
            await asyncio.sleep(self._reload_seconds)
            if await asyncio.to_thread(self.look):
                for renewed in self._renewed:
                    renewed()

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return what a server listens with: it asks every client for a certificate.

        Each handshake uses the files that are good then.
        """
        given = self.current

        # In a thread of gRPC, before each handshake; None: nothing has changed.
        def fetch() -> Any:
            nonlocal given
            if self.current is given:
                return None
            given = self.current
            return given.server_configuration()

        return grpc.dynamic_ssl_server_credentials(
            given.server_configuration(), fetch, require_client_authentication=True
        )

    def _read(self) -> Certificates:
        ca, certificate, key = map(_content, ("CA", "CERTIFICATE", "KEY"), self._paths)
        _check("CA", self._paths[0], lambda: x509.load_pem_x509_certificates(ca))
        found = Certificates(ca, certificate, key)
        leaf = _check("CERTIFICATE", self._paths[1], lambda: found.leaf)
        private = _check("KEY", self._paths[2], lambda: load_pem_private_key(key, None))
        pem = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if leaf.public_key().public_bytes(*pem) != private.public_key().public_bytes(*pem):
            raise ValueError(
                f"MESHWRIGHT_TLS__KEY_FILE: {self._paths[2]} is not the key of {self._paths[1]}"
            )
        if leaf.not_valid_after_utc < datetime.now(UTC):
            raise ValueError(
                f"MESHWRIGHT_TLS__CERTIFICATE_FILE: {self._paths[1]} has expired on "
                f"{leaf.not_valid_after_utc.date()}"
            )
        return found


def _filled(path: Path | None, service: str) -> Path:
    return Path(str(path).replace("{service}", service))


def _content(which: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"MESHWRIGHT_TLS__{which}_FILE: cannot read {path}: {error.strerror}"
        ) from None


def _check(which: str, path: Path, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (ValueError, TypeError):
        raise ValueError(f"MESHWRIGHT_TLS__{which}_FILE: {path} is not in PEM form") from None
