"""DirectoryService."""

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.directory import People
from meshwright_session.domain.tenants import Tenants
from meshwright_session.servicers import Context
from meshwright_session.wire import directory, tenants, values


class DirectoryServicer(DirectoryServiceServicer):
    """Serves DirectoryService."""

    def __init__(self, people: People, operated: Tenants) -> None:
        self._people = people
        self._tenants = operated

    async def AuthenticateApiKey(
        self, request: pb.AuthenticateApiKeyRequest, context: Context
    ) -> pb.AuthenticateApiKeyResponse:
        """Return whom an API key stands for."""
        found = await self._people.authenticate(directory.digest(request))
        return directory.authenticated_message(found)

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, context: Context
    ) -> pb.CreateTenantResponse:
        """Create a tenant with its owner."""
        wanted = directory.tenant_wanted(request)
        created = await self._people.create_tenant(
            wanted.slug,
            wanted.display_name,
            wanted.plan,
            owner_name=wanted.owner_name,
            request=values.request_of(request, request.request_id, principal().subject),
        )
        return pb.CreateTenantResponse(
            tenant=directory.tenant_message(created.tenant),
            owner=directory.user_message(created.owner),
            api_key=created.api_key,
        )

    async def GetTenant(
        self, request: pb.GetTenantRequest, context: Context
    ) -> pb.GetTenantResponse:
        """Return the caller's tenant."""
        tenant = await self._people.get_tenant(principal())
        return pb.GetTenantResponse(tenant=directory.tenant_message(tenant))

    async def UpdateTenant(
        self, request: pb.UpdateTenantRequest, context: Context
    ) -> pb.UpdateTenantResponse:
        """Change a tenant."""
        tenant_id, change = tenants.tenant_change(request)
        tenant = await self._tenants.update(tenant_id, change)
        return pb.UpdateTenantResponse(tenant=directory.tenant_message(tenant))

    async def ListTenants(
        self, request: pb.ListTenantsRequest, context: Context
    ) -> pb.ListTenantsResponse:
        """Return a page of all tenants."""
        page = await self._tenants.list(
            tenants.tenant_name(request), values.page_request(request.page)
        )
        return tenants.tenant_list(page.rows, page.next_token)

    async def GetQuota(self, request: pb.GetQuotaRequest, context: Context) -> pb.GetQuotaResponse:
        """Return limits of the caller's tenant and what is used of them."""
        quota = await self._tenants.quota(
            principal().tenant_id, for_admission=request.for_admission
        )
        return tenants.quota_message(quota)

    async def UpdateUser(
        self, request: pb.UpdateUserRequest, context: Context
    ) -> pb.UpdateUserResponse:
        """Change a user."""
        user_id, change = tenants.user_change(request)
        user = await self._people.update_user(principal(), user_id, change)
        return pb.UpdateUserResponse(user=directory.user_message(user))

    async def ConfirmUser(
        self, request: pb.ConfirmUserRequest, context: Context
    ) -> pb.ConfirmUserResponse:
        """Return what a user may do now."""
        caller = await self._people.confirm_user(
            parse_id(request.tenant_id, "tenant_id"), parse_id(request.user_id, "user_id")
        )
        return pb.ConfirmUserResponse(principal=directory.principal_message(caller))

    async def CreateUser(
        self, request: pb.CreateUserRequest, context: Context
    ) -> pb.CreateUserResponse:
        """Create a user."""
        caller = principal()
        wanted = directory.user_wanted(request)
        user = await self._people.create_user(
            caller,
            name=wanted.name,
            email=wanted.email,
            roles=wanted.roles,
            request=values.request_of(request, request.request_id, caller.subject),
        )
        return pb.CreateUserResponse(user=directory.user_message(user))

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.GetUserResponse:
        """Return a user."""
        user_id = parse_id(request.user_id, "user_id") if request.user_id else ""
        user = await self._people.get_user(principal(), user_id)
        return pb.GetUserResponse(user=directory.user_message(user))

    async def ListUsers(
        self, request: pb.ListUsersRequest, context: Context
    ) -> pb.ListUsersResponse:
        """Return a page of the tenant's users."""
        page = await self._people.list_users(principal(), values.page_request(request.page))
        return pb.ListUsersResponse(
            users=[directory.user_message(user) for user in page.rows],
            page=values.page_info(page.next_token),
        )

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        """Create an API key."""
        wanted = directory.api_key_wanted(request)
        created = await self._people.create_api_key(
            principal(),
            user_id=wanted.user_id,
            label=wanted.label,
            permissions=wanted.permissions,
            expire_time=wanted.expire_time,
        )
        return pb.CreateApiKeyResponse(
            api_key=directory.api_key_message(created.api_key), secret=created.secret
        )

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Context
    ) -> pb.ListApiKeysResponse:
        """Return a page of the tenant's API keys."""
        page = await self._people.list_api_keys(principal(), values.page_request(request.page))
        return pb.ListApiKeysResponse(
            api_keys=[directory.api_key_message(key) for key in page.rows],
            page=values.page_info(page.next_token),
        )

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: Context
    ) -> pb.RevokeApiKeyResponse:
        """Revoke an API key."""
        api_key_id = parse_id(request.api_key_id, "api_key_id")
        key = await self._people.revoke_api_key(principal(), api_key_id)
        return pb.RevokeApiKeyResponse(api_key=directory.api_key_message(key))
