"""What the rules need from stores. Every method is one transaction, and all of it or nothing."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import (
    ApiKey,
    Credential,
    NewApiKey,
    NewTenant,
    NewUser,
    Tenant,
    User,
    UserChange,
)
from meshwright_session.domain.models import (
    NewMessage,
    Owner,
    Request,
    Session,
    SessionChange,
    SessionDraft,
    StoredMessage,
)
from meshwright_session.domain.usage_models import (
    LedgerPosition,
    Period,
    SumPosition,
    UsageDimension,
    UsageRow,
    UsageSum,
)


class SessionPosition(NamedTuple):
    """Place in a user's sessions, last used first."""

    update_time: datetime
    session_id: str


class MessagePosition(NamedTuple):
    """Place in a session's messages."""

    create_time: datetime
    sequence: int


class ApiKeyPosition(NamedTuple):
    """Place in a tenant's API keys, newest first."""

    create_time: datetime
    api_key_id: str


class SessionStore(Protocol):
    """Sessions of one owner; another owner's raise SessionNotFound like absent ones."""

    async def create(
        self, owner: Owner, session_id: str, draft: SessionDraft, request: Request | None
    ) -> Session:
        """Store a session, or return the one that the same request made before.

        Raises: IdempotencyKeyReused; SessionNotFound when the one made before was deleted;
        UserNotFound when the directory does not know the owner.
        """
        ...

    async def get(self, owner: Owner, session_id: str) -> Session:
        """Return a session. Raises: SessionNotFound."""
        ...

    async def list(
        self, owner: Owner, after: SessionPosition | None, limit: int
    ) -> Sequence[Session]:
        """Return up to `limit` sessions after a place, last used first."""
        ...

    async def update(
        self, owner: Owner, session_id: str, change: SessionChange, revision: int | None
    ) -> Session:
        """Change a session, if it still has `revision` (None: whatever it has).

        Raises: SessionNotFound, SessionChanged.
        """
        ...

    async def delete(
        self,
        owner: Owner,
        session_id: str,
        act: Act,
        *,
        unless_used_after: datetime = ...,
    ) -> None:
        """Remove a session and all below it, and report `act`; an absent one does nothing.

        Nor does one that was used after a time.
        """
        ...


class MessageStore(Protocol):
    """Messages of one owner's sessions. Sequences are 1, 2, 3 … whatever happens at once."""

    async def append(
        self,
        owner: Owner,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        turn_id: str | None,
        request: Request | None,
    ) -> Sequence[StoredMessage]:
        """Store messages, or return those that the same request stored before.

        Raises: SessionNotFound, IdempotencyKeyReused.
        """
        ...

    async def list(
        self,
        owner: Owner,
        session_id: str,
        after: MessagePosition | None,
        limit: int,
        *,
        newest_first: bool,
    ) -> Sequence[StoredMessage]:
        """Return up to `limit` messages after a place. Raises: SessionNotFound."""
        ...


class Directory(Protocol):
    """Tenants, users and API keys."""

    async def create_tenant(
        self, tenant: NewTenant, owner: NewUser, key: NewApiKey, request: Request | None, act: Act
    ) -> tuple[Tenant, User, bool]:
        """Store a tenant with its owner and the owner's key; True when they are new.

        With a known request the tenant and owner made before are returned, and no key is stored.
        Raises: NameTaken, IdempotencyKeyReused.
        """
        ...

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant. Raises: TenantNotFound."""
        ...

    async def create_user(
        self, tenant_id: str, user: NewUser, request: Request | None, act: Act
    ) -> User:
        """Store a user, or return the one that the same request of the same actor made before.

        Raises: NameTaken, IdempotencyKeyReused, TenantNotFound.
        """
        ...

    async def update_user(
        self,
        tenant_id: str,
        user_id: str,
        change: UserChange,
        act: Act,
        allow: Callable[[User], None],
    ) -> User:
        """Change a user and report `act`; nothing is reported when nothing changes.

        `allow` is given the user before the change, and raises when it may not be changed.
        Raises: UserNotFound, NameTaken; LastOwner when nobody could act as owner any more.
        """
        ...

    async def get_user(self, tenant_id: str, user_id: str) -> User:
        """Return a user. Raises: UserNotFound."""
        ...

    async def list_users(
        self, tenant_id: str, after_name: str | None, limit: int
    ) -> Sequence[User]:
        """Return up to `limit` users after a name, by name."""
        ...

    async def create_api_key(self, tenant_id: str, key: NewApiKey, act: Act) -> ApiKey:
        """Store a key. Raises: UserNotFound."""
        ...

    async def list_api_keys(
        self, tenant_id: str, after: ApiKeyPosition | None, limit: int
    ) -> Sequence[ApiKey]:
        """Return up to `limit` keys after a place, newest first."""
        ...

    async def revoke_api_key(self, tenant_id: str, api_key_id: str, act: Act) -> ApiKey:
        """Revoke a key for good; `act` is reported the first time. Raises: ApiKeyNotFound."""
        ...

    async def find_credential(self, key_sha256: bytes) -> Credential | None:
        """Return whom a key stands for, of whatever tenant; None when nobody has it."""
        ...


class FreshKey(Protocol):
    """A key just made: `plain` is shown once, `sha256` is stored, `prefix` names it to people."""

    @property
    def plain(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def sha256(self) -> bytes: ...


class RefusedKeys(Protocol):
    """Is told of logins with a key that somebody has and that is good no more."""

    def __call__(self, credential: Credential) -> None:
        """Note that the key was refused now."""
        ...


class ApiKeyMaker(Protocol):
    """Makes API keys."""

    def __call__(self) -> FreshKey:
        """Return a key that nobody can guess."""
        ...


class TenantRegister(Protocol):
    """Who exists, asked inside the transaction in which an event is handled."""

    async def has(self, tenant_id: str) -> bool:
        """Return whether there is such a tenant, suspended or not."""
        ...


class UsageLedger(Protocol):
    """Writes the ledger inside the transaction in which an event is handled."""

    async def record(self, row: UsageRow) -> bool:
        """Add a call and its day's sums; False when the call is in the ledger already."""
        ...

    async def record_all(self, rows: Sequence[UsageRow]) -> None:
        """Do as `record`, for several calls of one tenant."""
        ...


class UsageReader(Protocol):
    """Reads the ledger of one tenant. `user_id` None: of all users."""

    async def sums(
        self,
        tenant_id: str,
        user_id: str | None,
        period: Period,
        group_by: frozenset[UsageDimension],
        after: SumPosition | None,
        limit: int,
    ) -> Sequence[UsageSum]:
        """Return up to `limit` sums after a place, ordered by day, user, model, feature."""
        ...

    async def rows(
        self,
        tenant_id: str,
        user_id: str | None,
        start: datetime | None,
        end: datetime,
        after: LedgerPosition | None,
        limit: int,
    ) -> Sequence[UsageRow]:
        """Return up to `limit` rows after a place, in time order."""
        ...


class Housekeeping(Protocol):
    """What keeps the tables in shape, for all tenants. Idempotent."""

    async def make_partitions(self, months_ahead: int) -> int:
        """Make the partitions of this month and of `months_ahead` more; return how many are new."""
        ...

    async def prune_requests(self, hours: int) -> int:
        """Forget requests older than `hours`; return how many."""
        ...

    async def prune_erasures(self, days: int) -> int:
        """Drop erasures completed more than `days` ago, with their receipts; return how many."""
        ...

    async def prune_notifications(self, days: int) -> int:
        """Drop notifications older than `days`; return how many."""
        ...

    async def prune_webhook_deliveries(self, days: int) -> int:
        """Drop deliveries to webhooks that ended more than `days` ago; return how many."""
        ...
