"""Certificates for development: an authority of one's own, and a certificate per service.

For one machine and for tests. In production an authority that rotates (cert-manager, Vault) writes
the same files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshwright_common.identity.keys import write_whole

CA_NAME: Final = "ca"
CA_LIFETIME: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin to be valid a little earlier: clocks differ."""


class CertificateFilesExist(Exception):
    """Files are there already. The text names them."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that signs certificates, in memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Its certificate, as others trust it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self, names: Sequence[str], lifetime: timedelta, *, begin: datetime | None = None
    ) -> tuple[bytes, bytes]:
        """Return a certificate for `names`, the first of which is its subject, and its key: PEM.

        It is valid for the loopback besides, and for both sides of a connection.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        begin = begin or datetime.now(UTC) - BACKDATED
        alternatives = [x509.DNSName(name) for name in (*names, "localhost")]
        addresses = [x509.IPAddress(ip_address(one)) for one in ("127.0.0.1", "::1")]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(names[0], self.certificate.subject, key.public_key(), begin, lifetime)
            .add_extension(x509.SubjectAlternativeName([*alternatives, *addresses]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM), private_pem(key)


def new_authority(lifetime: timedelta) -> Authority:
    """Return a new authority, which trusts nobody but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Meshwright development authority")
    certificate = (
        _builder(name, name, key.public_key(), datetime.now(UTC) - BACKDATED, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_may_sign_certificates(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def write_certificates(
    directory: Path,
    names: Sequence[str],
    lifetime: timedelta,
    *,
    shared_name: str,
    overwrite: bool = False,
) -> Authority:
    """Write `ca.crt`, and `<name>.crt` and `<name>.key` for each name, into `directory`.

    `shared_name` gets one that is valid for all names: for a process that is several services.
    With `overwrite` the certificates are replaced, and the authority in the folder, `ca.crt` with
    `ca.key`, stays while it outlives them: so they can be rotated while they are in use. Files
    appear whole, keys with mode 0600. Raises: CertificateFilesExist unless `overwrite`; OSError.
    """
    wanted = {name: (name,) for name in names} | {shared_name: (shared_name, *names)}
    paths = [directory / f"{name}.{end}" for name in (CA_NAME, *wanted) for end in ("crt", "key")]
    there = [path.name for path in paths if path.exists()]
    if there and not overwrite:
        raise CertificateFilesExist(f"{directory} has {', '.join(there)} already")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _kept_authority(directory, lifetime)
    if authority is None:
        authority = new_authority(max(lifetime, CA_LIFETIME))
        write_whole(directory / f"{CA_NAME}.key", private_pem(authority.key), mode=0o600)
        write_whole(directory / f"{CA_NAME}.crt", authority.pem, mode=0o644)
    for name, subjects in wanted.items():
        certificate, key = authority.issue(subjects, lifetime)
        write_whole(directory / f"{name}.key", key, mode=0o600)
        write_whole(directory / f"{name}.crt", certificate, mode=0o644)
    return authority


def _kept_authority(directory: Path, lifetime: timedelta) -> Authority | None:
    """Return the authority of the folder, if it is whole and lives for long enough."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{CA_NAME}.crt").read_bytes())
        key = load_pem_private_key((directory / f"{CA_NAME}.key").read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if certificate.public_key() != key.public_key():
        return None
    lives_on = certificate.not_valid_after_utc > datetime.now(UTC) + lifetime
    return Authority(certificate, key) if lives_on else None


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key in PEM form, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: str | x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begin: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject) if isinstance(subject, str) else subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + lifetime)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _may_sign_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
