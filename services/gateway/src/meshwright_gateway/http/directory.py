"""Tokens, the caller, the tenant, its quota, and API keys."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from meshwright.session.v1 import directory_service_pb2
from meshwright_common.context import principal
from meshwright_common.errors import Unauthenticated
from meshwright_common.identity.tokens import TokenMinter
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.paging import API_PREFIX, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import directory as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.records import (
    api_key_view,
    create_api_key_request,
    quota_view,
    tenant_view,
    user_view,
)

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

EXCHANGE_KEY = "meshwright.exchange"
"""Where a route of the framework finds the exchange: `request.scope[EXCHANGE_KEY]`."""

_READS_USERS = "tenant:read"


def token_router(tokens: TokenMinter) -> APIRouter:
    """Return the route where an API key becomes a token for the services of the mesh."""
    router = APIRouter(prefix=f"{API_PREFIX}/auth", tags=["auth"])

    @router.post("/token")
    async def issue_token(body: schemas.TokenRequest, request: Request) -> schemas.IssuedToken:
        """Exchange the API key of this request for a signed token of at most 60 seconds."""
        exchange: Exchange = request.scope[EXCHANGE_KEY]
        if exchange.credential is None or exchange.credential.key_digest is None:
            # A token that buys the next one would outlive the key it came from.
            raise Unauthenticated("only an API key can be exchanged for a token")
        token = tokens.issue(exchange.credential.principal)
        return schemas.IssuedToken(access_token=token.value, expires_in=token.expires_in_seconds)

    return router


def directory_router(directory: "DirectoryServiceAsyncStub") -> APIRouter:
    """Return the routes about who exists."""
    router = APIRouter(prefix=API_PREFIX, tags=["directory"])

    @router.get("/me")
    async def get_caller() -> schemas.Caller:
        """Who the credential of this request stands for."""
        caller = principal()
        user = None
        if caller.kind == "user" and caller.has(_READS_USERS):
            answer = await directory.GetUser(directory_service_pb2.GetUserRequest())
            user = user_view(answer.user)
        return schemas.Caller(
            tenant_id=caller.tenant_id,
            subject=caller.subject,
            kind=caller.kind,
            permissions=sorted(caller.permissions),
            roles=list(caller.roles),
            user=user,
        )

    @router.get("/tenant")
    async def get_tenant() -> schemas.Tenant:
        """The caller's tenant."""
        answer = await directory.GetTenant(directory_service_pb2.GetTenantRequest())
        return tenant_view(answer.tenant)

    @router.get("/quota")
    async def get_quota() -> schemas.Quota:
        """What the caller's tenant may use, and what it uses."""
        return quota_view(await directory.GetQuota(directory_service_pb2.GetQuotaRequest()))

    @router.post("/api-keys", status_code=201)
    async def create_api_key(body: schemas.ApiKeyCreate) -> schemas.CreatedApiKey:
        """Create an API key. Its secret is in this answer only."""
        answer = await directory.CreateApiKey(create_api_key_request(body))
        return schemas.CreatedApiKey(api_key=api_key_view(answer.api_key), secret=answer.secret)

    @router.get("/api-keys")
    async def list_api_keys(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.ApiKeyList:
        """API keys, newest first, without their secrets."""
        answer = await directory.ListApiKeys(
            directory_service_pb2.ListApiKeysRequest(
                page=values.page_request(page_size, page_token)
            )
        )
        return schemas.ApiKeyList(
            api_keys=[api_key_view(key) for key in answer.api_keys],
            next_page_token=answer.page.next_page_token,
        )

    @router.delete("/api-keys/{api_key_id}")
    async def revoke_api_key(api_key_id: IdPath) -> schemas.ApiKey:
        """Revoke an API key: new requests with it are refused within five seconds."""
        answer = await directory.RevokeApiKey(
            directory_service_pb2.RevokeApiKeyRequest(api_key_id=api_key_id)
        )
        return api_key_view(answer.api_key)

    return router
