"""The users of the tenant."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import directory as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.records import update_user_request, user_view

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub


def users_router(directory: "DirectoryServiceAsyncStub") -> APIRouter:
    """Return the routes about users."""
    router = APIRouter(prefix=API_PREFIX, tags=["directory"])

    @router.get("/users")
    async def list_users(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.UserList:
        """Users by name."""
        answer = await directory.ListUsers(
            directory_service_pb2.ListUsersRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.UserList(
            users=[user_view(user) for user in answer.users],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("/users", status_code=201)
    async def create_user(
        body: schemas.UserCreate, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.User:
        """Create a user."""
        answer = await directory.CreateUser(
            directory_service_pb2.CreateUserRequest(
                user=tenant_pb2.User(name=body.name, email=body.email, roles=body.roles),
                request_id=idempotency_key,
            )
        )
        response.headers["location"] = f"/api/v1/users/{answer.user.user_id}"
        return user_view(answer.user)

    @router.get("/users/{user_id}")
    async def get_user(user_id: IdPath) -> schemas.User:
        """One user."""
        answer = await directory.GetUser(directory_service_pb2.GetUserRequest(user_id=user_id))
        return user_view(answer.user)

    @router.patch("/users/{user_id}")
    async def update_user(user_id: IdPath, body: schemas.UserChange) -> schemas.User:
        """Change a user: a disabled one is refused within five seconds, open streams end within
        thirty."""
        answer = await directory.UpdateUser(update_user_request(user_id, body))
        return user_view(answer.user)

    return router
