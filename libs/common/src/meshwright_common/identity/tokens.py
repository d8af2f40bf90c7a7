"""Internal tokens: minted by the service that serves a caller, verified by every service it asks.

A token is a JWT signed with Ed25519 by one service: `iss` and the header's `kid` name it, `aud` is
the mesh, `exp` is at most 60 seconds after `iat`. It is minted once per principal and reused for
45 seconds; a verification is remembered until the token ends. Nothing is signed per message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshwright_common.clock import Clock, SystemClock
from meshwright_common.context import MESH_INTERNAL, Principal, PrincipalKind
from meshwright_common.errors import InvalidArgument, Unauthenticated
from meshwright_common.ids import new_id, parse_id

AUDIENCE: Final = "meshwright"
LIFETIME_SECONDS: Final = 60
REUSE_SECONDS: Final = 45
"""How long one token serves its principal; the rest of its life covers calls under way."""
LEEWAY_SECONDS: Final = 30
"""How far the clocks of two machines may be apart."""
MAX_TOKEN_BYTES: Final = 2048
"""gRPC drops metadata at random from 8 KiB on; the token has a quarter of that."""

_ALGORITHM: Final = "EdDSA"
_TYPE: Final = "mesh+jwt"
_CACHE_LIMIT: Final = 4096


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payload, with exactly these types: no float, text or list where another is due."""

    iss: str
    aud: str
    sub: str
    tid: str
    kind: PrincipalKind
    perms: list[str]
    roles: list[str]
    iat: int
    exp: int
    jti: str


_claims_decoder: Final = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token and how long it is good for from now, in seconds."""

    value: str
    expires_in_seconds: int


class TokenMinter:
    """Signs tokens in the name of one service."""

    def __init__(
        self, service: str, private_key: Ed25519PrivateKey, clock: Clock | None = None
    ) -> None:
        self._service = service
        self._private_key = private_key
        self._clock = clock or SystemClock()
        self._cache: dict[Principal, tuple[str, float]] = {}

    def token_for(self, principal: Principal) -> str:
        """Return a token for `principal` that is good for 15 seconds at least.

        Raises: InvalidArgument when the principal cannot be put into a token.
        """
        now = self._clock.monotonic()
        cached = self._cache.get(principal)
        if cached is not None and now < cached[1]:
            return cached[0]
        value = self.issue(principal).value
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache = {who: entry for who, entry in self._cache.items() if now < entry[1]}
        if len(self._cache) < _CACHE_LIMIT:
            self._cache[principal] = (value, now + REUSE_SECONDS)
        return value

    def issue(self, principal: Principal) -> Token:
        """Return a fresh token with its whole life before it, to be handed out.

        Raises: InvalidArgument when the principal cannot be put into a token.
        """
        if principal.kind == "user" and principal.has(MESH_INTERNAL):
            raise InvalidArgument("a user cannot hold the permission of services")
        issued_at = int(self._clock.now().timestamp())
        claims: dict[str, object] = {
            "iss": self._service,
            "aud": AUDIENCE,
            "sub": principal.subject,
            "tid": parse_id(principal.tenant_id, "principal.tenant_id"),
            "kind": principal.kind,
            "perms": sorted(principal.permissions),
            "roles": list(principal.roles),
            "iat": issued_at,
            "exp": issued_at + LIFETIME_SECONDS,
            "jti": new_id(),
        }
        value = jwt.encode(claims, self._private_key, _ALGORITHM, headers=_header(self._service))
        if len(value) > MAX_TOKEN_BYTES:
            raise InvalidArgument(
                "the principal's permissions and roles do not fit a token",
                limit_bytes=str(MAX_TOKEN_BYTES),
            )
        return Token(value, LIFETIME_SECONDS)


class TokenVerifier:
    """Verifies tokens against the public keys of the mesh, by service name.

    The header is compared, not parsed: it must be, byte for byte, the one that a trusted service
    writes. So no header can choose an algorithm, bring a key, or name an extension.
    """

    def __init__(self, trusted: Mapping[str, Ed25519PublicKey], clock: Clock | None = None) -> None:
        self._issuers = {_header_segment(name): (name, key) for name, key in trusted.items()}
        self._clock = clock or SystemClock()
        self._signatures = jwt.PyJWS(algorithms=[_ALGORITHM])
        self._cache: dict[str, tuple[Principal, float]] = {}

    def verify(self, token: str) -> Principal:
        """Return the principal of a good token. Raises: Unauthenticated, without saying why."""
        now = self._clock.monotonic()
        cached = self._cache.get(token)
        if cached is not None:
            if now < cached[1]:
                return cached[0]
            del self._cache[token]
        principal, valid_seconds = self._check(token)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache = {text: entry for text, entry in self._cache.items() if now < entry[1]}
        if len(self._cache) < _CACHE_LIMIT:
            self._cache[token] = (principal, now + valid_seconds)
        return principal

    def _check(self, token: str) -> tuple[Principal, float]:
        if len(token) > MAX_TOKEN_BYTES:
            raise _refused()
        issuer = self._issuers.get(token.partition(".")[0])
        if issuer is None:
            raise _refused()
        name, key = issuer
        try:
            payload = self._signatures.decode(token, key, algorithms=[_ALGORITHM])
            claims = _claims_decoder.decode(payload)
            tenant_id = parse_id(claims.tid, "tid")
        except (jwt.InvalidTokenError, msgspec.DecodeError, InvalidArgument):
            raise _refused() from None
        now = self._clock.now().timestamp()
        valid_seconds = claims.exp + LEEWAY_SECONDS - now
        good = (
            claims.iss == name
            and claims.aud == AUDIENCE
            and 0 < claims.exp - claims.iat <= LIFETIME_SECONDS
            and claims.iat <= now + LEEWAY_SECONDS
            and valid_seconds > 0
            and not (claims.kind == "user" and MESH_INTERNAL in claims.perms)
        )
        if not good:
            raise _refused()
        principal = Principal(
            tenant_id, claims.sub, claims.kind, frozenset(claims.perms), tuple(claims.roles)
        )
        return principal, valid_seconds


def _header(service: str) -> dict[str, str]:
    return {"kid": service, "typ": _TYPE}


def _header_segment(service: str) -> str:
    sample = jwt.encode({}, Ed25519PrivateKey.generate(), _ALGORITHM, headers=_header(service))
    return sample.partition(".")[0]


def _refused() -> Unauthenticated:
    return Unauthenticated("the token is not valid or has expired")
