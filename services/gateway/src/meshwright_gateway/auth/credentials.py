"""Who calls: an API key asked for at the directory, or a signed token verified here.

A token is verified without asking anybody, and its user is asked for all the same: what was taken
from a user since, or from the tenant, counts within seconds.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from meshwright.session.v1 import directory_service_pb2
from meshwright_common.clock import Clock
from meshwright_common.context import MESH_INTERNAL, Principal, bind, service_context
from meshwright_common.errors import (
    DeadlineExceeded,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from meshwright_common.identity import api_keys
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_gateway.wire.values import principal_from

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""Tenant of the one call that is made before a tenant is known."""

SOCKET_CREDENTIAL: Final = b"meshwright.key."
"""Beginning of the subprotocol of a WebSocket that carries a key or a token."""
_SCHEME: Final = b"bearer "
_KEY_PREFIX: Final = "mw_"
_MAX_CREDENTIAL_BYTES: Final = 4096
_CACHE_LIMIT: Final = 8192
_LOOK_UP_SECONDS: Final = 2.0


Asked: TypeAlias = bytes | tuple[str, str]
"""What the directory is asked about: the digest of a key, or a tenant's id and a user's."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request brought. `key_digest` is None for a token."""

    principal: Principal
    key_digest: bytes | None

    @property
    def asked(self) -> Asked | None:
        """What to ask the directory about; None for a service, which it does not know."""
        if self.key_digest is not None:
            return self.key_digest
        if self.principal.kind == "user":
            return self.principal.tenant_id, self.principal.subject
        return None


class Authenticator:
    """Turns credentials into principals.

    An answer is kept for `key_seconds`, a refusal for `refusal_seconds`; requests that come while
    the same is being asked wait for that one answer. Keys are kept as digests only.
    """

    def __init__(
        self,
        directory: "DirectoryServiceAsyncStub",
        verifier: TokenVerifier,
        clock: Clock,
        *,
        key_seconds: float,
        refusal_seconds: float,
    ) -> None:
        self._directory = directory
        self._verifier = verifier
        self._clock = clock
        self._key_seconds = key_seconds
        self._refusal_seconds = refusal_seconds
        self._known: dict[Asked, tuple[Principal | ServiceError, float]] = {}
        self._flights: dict[Asked, asyncio.Future[Principal]] = {}

    async def authenticate(
        self, headers: Mapping[bytes, bytes], raw_headers: Sequence[tuple[bytes, bytes]]
    ) -> Credential:
        """Return the caller. Raises: Unauthenticated, FailedPrecondition (TENANT_SUSPENDED),
        Unavailable or DeadlineExceeded when the directory does not answer.
        """
        text = _credential_of(headers, raw_headers)
        if not text.startswith(_KEY_PREFIX):
            credential = Credential(self._verifier.verify(text), None)
            return replace(credential, principal=await self._as_of_now(credential))
        digest = api_keys.digest(text)
        # A known key needs no second look at its form, which costs more than the digest.
        if digest not in self._known and not api_keys.is_well_formed(text):
            raise _refused()
        return Credential(await self._principal_of(digest), digest)

    async def confirm(self, credential: Credential) -> None:
        """Raise as `authenticate` if the credential is no longer good, or is good for less.

        Raises: Unavailable or DeadlineExceeded when the directory does not answer.
        """
        asked = credential.asked
        if asked is None:
            return
        now = await self._principal_of(asked)
        if not credential.principal.permissions <= now.permissions:
            raise Unauthenticated("rights of this credential were taken away: connect again")

    async def _as_of_now(self, credential: Credential) -> Principal:
        """Return the principal of a token with what is left of its rights."""
        principal, asked = credential.principal, credential.asked
        if asked is None:
            return principal
        try:
            now = await self._principal_of(asked)
        except (Unavailable, DeadlineExceeded):
            # A token that was good stays good until the directory says no; it lives for a minute.
            return principal
        return replace(principal, permissions=principal.permissions & now.permissions)

    async def _principal_of(self, asked: Asked) -> Principal:
        known = self._known.get(asked)
        if known is not None and self._clock.monotonic() < known[1]:
            if isinstance(known[0], ServiceError):
                raise _refused() from known[0]
            return known[0]
        while (flight := self._flights.get(asked)) is not None:
            try:
                return await asyncio.shield(flight)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not flight.cancelled() or (task is not None and task.cancelling()):
                    raise
                # Whoever asked has left: ask again.
        return await self._look_up(asked)

    async def _look_up(self, asked: Asked) -> Principal:
        flight: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
        self._flights[asked] = flight
        try:
            principal = await self._ask(asked)
        except ServiceError as error:
            flight.set_exception(error)
            # Nobody may be waiting for it.
            flight.exception()
            if isinstance(error, Unauthenticated):
                self._remember(asked, error, self._refusal_seconds)
                raise _refused() from error
            raise
        except asyncio.CancelledError:
            flight.cancel()
            raise
        else:
            flight.set_result(principal)
            self._remember(asked, principal, self._key_seconds)
            return principal
        finally:
            del self._flights[asked]

    async def _ask(self, asked: Asked) -> Principal:
        context = service_context(
            "gateway", NO_TENANT, (MESH_INTERNAL,), timeout_seconds=_LOOK_UP_SECONDS
        )
        with bind(context):
            if isinstance(asked, bytes):
                key = await self._directory.AuthenticateApiKey(
                    directory_service_pb2.AuthenticateApiKeyRequest(api_key_sha256=asked)
                )
                return principal_from(key.principal)
            tenant_id, user_id = asked
            user = await self._directory.ConfirmUser(
                directory_service_pb2.ConfirmUserRequest(tenant_id=tenant_id, user_id=user_id)
            )
        return principal_from(user.principal)

    def _remember(self, asked: Asked, answer: Principal | ServiceError, seconds: float) -> None:
        now = self._clock.monotonic()
        if len(self._known) >= _CACHE_LIMIT:
            self._known = {key: entry for key, entry in self._known.items() if now < entry[1]}
        if len(self._known) < _CACHE_LIMIT:
            self._known[asked] = (answer, now + seconds)


def _credential_of(
    headers: Mapping[bytes, bytes], raw_headers: Sequence[tuple[bytes, bytes]]
) -> str:
    header = headers.get(b"authorization")
    if header is not None:
        if sum(name == b"authorization" for name, _ in raw_headers) > 1:
            raise Unauthenticated("more than one authorization header was sent")
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("send the key as: Authorization: Bearer mw_…")
        credential = header[len(_SCHEME) :].strip()
    else:
        credential = headers.get(b"x-api-key", b"").strip() or _of_socket(headers)
    if not credential:
        raise Unauthenticated(
            "no credential was sent: use Authorization: Bearer mw_… or X-API-Key: mw_…"
        )
    if len(credential) > _MAX_CREDENTIAL_BYTES or not credential.isascii():
        raise _refused()
    return credential.decode("ascii")


def _of_socket(headers: Mapping[bytes, bytes]) -> bytes:
    """Return what a web page offers beside the protocol of its WebSocket: it sets no headers."""
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        return b""
    for offered in headers.get(b"sec-websocket-protocol", b"").split(b","):
        if (name := offered.strip()).startswith(SOCKET_CREDENTIAL):
            return name[len(SOCKET_CREDENTIAL) :]
    return b""


def _refused() -> Unauthenticated:
    return Unauthenticated("the API key or token is not valid, was revoked or has expired")
