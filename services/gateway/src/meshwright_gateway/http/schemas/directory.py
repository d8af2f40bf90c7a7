"""Bodies of tokens, the caller, the tenant, users and API keys."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Identifier, Input, Listing, Moment, Output

RoleName = Literal["owner", "admin", "member", "viewer", "auditor"]


class TokenRequest(Input):
    """Exchange the API key of this request for a signed token."""

    grant_type: Literal["api_key"]


class IssuedToken(Output):
    """A signed token for the gRPC services of the mesh, or for this API."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 -- a scheme, no secret
    expires_in: int = Field(description="Seconds; exchange again before they are over.")


class User(Output):
    """A person or program of the tenant."""

    user_id: str
    name: str
    email: str
    roles: list[str]
    disabled: bool
    create_time: datetime


class UserCreate(Input):
    """A new user. Nobody can grant roles that hold more than the caller has."""

    name: str = Field(min_length=1, max_length=128, description="Unique in the tenant.")
    email: str = Field(default="", max_length=320)
    roles: Annotated[tuple[RoleName, ...], Field(strict=False, min_length=1, max_length=5)] = (
        "member",
    )


class UserChange(Input):
    """What to change of a user; what is left out stays. Nobody can change a user who holds more
    than the caller, and a tenant keeps an owner who can act."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    email: str | None = Field(default=None, max_length=320)
    roles: (
        Annotated[tuple[RoleName, ...], Field(strict=False, min_length=1, max_length=5)] | None
    ) = None
    disabled: bool | None = Field(
        default=None, description="True: credentials are refused within five seconds."
    )


class UserList(Listing):
    """Users by name."""

    users: list[User]


class Tenant(Output):
    """The caller's tenant."""

    tenant_id: str
    slug: str
    display_name: str
    plan: Literal["starter", "professional", "enterprise", "unspecified"]
    suspended: bool
    create_time: datetime


class QuotaState(Output):
    """One limit of the tenant."""

    limit: int | None = Field(description="Null: there is none.")
    used: int | None = Field(description="Null: the service that counts it is away.")


class Quota(Output):
    """What the tenant may use, and what it uses."""

    plan: Literal["starter", "professional", "enterprise", "unspecified"]
    state: Literal["active", "suspended", "deleting", "unspecified"]
    sessions: QuotaState
    tokens_per_day: QuotaState = Field(description="Of the current UTC day.")
    documents: QuotaState
    storage_bytes: QuotaState
    concurrent_turns: QuotaState
    cost_micro_usd_per_day: QuotaState = Field(
        description="Millionths of a US dollar, of the current UTC day."
    )
    allowed_models: list[str] = Field(
        description="`*` stands for any characters. Empty: all models."
    )
    alert_percents: list[int] = Field(
        description="Shares of a limit at which administrators are notified."
    )


class Caller(Output):
    """Who the credential of this request stands for."""

    tenant_id: str
    subject: str
    kind: Literal["user", "service"]
    permissions: list[str]
    roles: list[str]
    user: User | None = Field(description="Null for services, and without tenant:read.")


class ApiKeyCreate(Input):
    """A new API key."""

    label: str = Field(default="", max_length=100)
    user_id: Identifier | None = Field(default=None, description="Absent: the caller.")
    permissions: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
        Field(strict=False, max_length=64, description="Empty: all that the user has."),
    ] = ()
    expire_time: Moment | None = Field(default=None, description="Absent: never.")


class ApiKey(Output):
    """An API key without its secret."""

    api_key_id: str
    user_id: str
    label: str
    prefix: str
    permissions: list[str]
    revoked: bool
    create_time: datetime
    expire_time: datetime | None


class CreatedApiKey(Output):
    """An API key with its secret, which is shown in this answer only."""

    api_key: ApiKey
    secret: str


class ApiKeyList(Listing):
    """API keys, newest first."""

    api_keys: list[ApiKey]
