"""Tenants, users and API keys over the stub: who gets in, and that nobody grants too much."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright.types.v1 import page_pb2, principal_pb2
from meshwright_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from meshwright_common.identity import api_keys
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_session.domain.roles import permissions_of
from meshwright_session.first_tenant import first_tenant
from services.session.tests.world import MESH, Member, World

pytestmark = pytest.mark.asyncio


async def authenticate(world: World, key: str) -> pb.AuthenticateApiKeyResponse:
    with calling_as(MESH):
        return await world.directory.AuthenticateApiKey(
            pb.AuthenticateApiKeyRequest(api_key_sha256=api_keys.digest(key))
        )


def a_tenant(slug: str, request_id: str = "") -> pb.CreateTenantRequest:
    return pb.CreateTenantRequest(
        tenant=tenant_pb2.Tenant(slug=slug), owner_name="admin", request_id=request_id
    )


async def test_key_of_a_new_tenant_stands_for_its_owner(world: World) -> None:
    owner = await world.tenant()
    found = await authenticate(world, owner.api_key)
    assert found.principal.tenant_id == owner.tenant_id
    assert found.principal.subject == owner.user_id
    assert found.principal.kind == principal_pb2.PRINCIPAL_KIND_USER
    assert set(found.principal.permissions) == permissions_of(["owner"])
    assert list(found.principal.roles) == ["owner"]


async def test_key_is_stored_nowhere_in_plain(world: World) -> None:
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        row = await connection.fetchrow("SELECT * FROM api_keys")
        events = await connection.fetch("SELECT body FROM events.outbox")
    assert row is not None
    body = owner.api_key.removeprefix("mw_")[8:]
    assert body not in str(dict(row))
    assert all(body.encode() not in event["body"] for event in events)


async def test_repeated_create_tenant_returns_it_without_the_key(world: World) -> None:
    with calling_as(MESH):
        first = await world.directory.CreateTenant(a_tenant("acme", "r1"))
        second = await world.directory.CreateTenant(a_tenant("acme", "r1"))
    assert (first.tenant, first.owner) == (second.tenant, second.owner)
    assert first.api_key
    assert not second.api_key


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        pytest.param(a_tenant("acme"), "ALREADY_EXISTS", id="same slug"),
        pytest.param(a_tenant("acme", "r2"), "ALREADY_EXISTS", id="same slug, new request"),
        pytest.param(a_tenant("other", "r1"), "IDEMPOTENCY_KEY_REUSED", id="same request"),
    ],
)
async def test_second_tenant_that_clashes_is_refused(
    world: World, second: pb.CreateTenantRequest, reason: str
) -> None:
    with calling_as(MESH):
        await world.directory.CreateTenant(a_tenant("acme", "r1"))
        with pytest.raises(AlreadyExists) as caught:
            await world.directory.CreateTenant(second)
    assert caught.value.reason == reason


async def test_people_cannot_call_what_only_the_mesh_may(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal):
        with pytest.raises(PermissionDenied):
            await world.directory.CreateTenant(a_tenant("acme"))
        with pytest.raises(PermissionDenied):
            await world.directory.AuthenticateApiKey(pb.AuthenticateApiKeyRequest())


async def test_first_tenant_is_made_once_and_a_lost_key_is_replaced(world: World) -> None:
    """What `meshwright up` does at every start."""
    first = await first_tenant(world.directory, service="gateway")
    again = await first_tenant(world.directory, service="gateway", known_key=first.api_key)
    lost = await first_tenant(world.directory, service="gateway")
    wrong = await first_tenant(world.directory, service="gateway", known_key="mw_wrong")
    assert first.is_new_key
    assert (again.api_key, again.is_new_key) == (first.api_key, False)
    assert len({first.api_key, lost.api_key, wrong.api_key}) == 3
    assert len({start.owner_id for start in (first, again, lost, wrong)}) == 1
    for start in (first, lost, wrong):
        found = await authenticate(world, start.api_key)
        assert found.principal.subject == first.owner_id
    assert first.api_key not in repr(first)


async def test_keys_that_open_nothing_all_say_the_same(world: World) -> None:
    """S-22d: unknown, revoked, expired and a disabled user's: one answer."""
    owner = await world.tenant()
    revoked, expired, disabled = [await make_key(world, owner) for _ in range(3)]
    with calling_as(owner.principal):
        await world.directory.RevokeApiKey(
            pb.RevokeApiKeyRequest(api_key_id=revoked.api_key.api_key_id)
        )
    user = await world.member(owner)
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE api_keys SET expire_time = now() WHERE api_key_id = $1",
            expired.api_key.api_key_id,
        )
        await connection.execute(
            "UPDATE api_keys SET user_id = $2 WHERE api_key_id = $1",
            disabled.api_key.api_key_id,
            user.user_id,
        )
        await connection.execute(
            "UPDATE users SET disabled = true WHERE user_id = $1", user.user_id
        )
    answers = set()
    for key in ("mw_unknown", revoked.secret, expired.secret, disabled.secret):
        with pytest.raises(Unauthenticated) as caught:
            await authenticate(world, key)
        answers.add((caught.value.reason, caught.value.message, str(caught.value.metadata)))
    assert len(answers) == 1


async def test_key_of_a_suspended_tenant_says_so(world: World) -> None:
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        await connection.execute("UPDATE tenants SET state = 'suspended'")
    with pytest.raises(FailedPrecondition) as caught:
        await authenticate(world, owner.api_key)
    assert caught.value.reason == "TENANT_SUSPENDED"


async def test_limited_key_holds_its_part_of_what_the_user_still_has(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    with calling_as(owner.principal):
        key = await world.directory.CreateApiKey(
            pb.CreateApiKeyRequest(
                user_id=member.user_id, label="ci", permissions=["kb:read", "kb:write"]
            )
        )
    found = await authenticate(world, key.secret)
    assert list(found.principal.permissions) == ["kb:read", "kb:write"]
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE users SET roles = '{viewer}' WHERE user_id = $1", member.user_id
        )
    found = await authenticate(world, key.secret)
    assert list(found.principal.permissions) == ["kb:read"]


@pytest.mark.parametrize("role", ["owner", "superuser"])
async def test_admin_cannot_make_an_owner(world: World, role: str) -> None:
    """S-28: nobody grants more than they hold."""
    owner = await world.tenant()
    admin = await world.member(owner, "admin")
    request = pb.CreateUserRequest(user=tenant_pb2.User(name="eve", roles=["member", role]))
    refusal = PermissionDenied if role == "owner" else InvalidArgument
    with calling_as(admin.principal), pytest.raises(refusal):
        await world.directory.CreateUser(request)
    with calling_as(owner.principal):
        users = await world.directory.ListUsers(pb.ListUsersRequest())
    assert "eve" not in {user.name for user in users.users}


async def test_narrow_credential_cannot_make_a_wider_one(world: World) -> None:
    owner = await world.tenant()
    narrow = owner.limited_to("tenant:admin", "kb:read")
    with calling_as(narrow):
        with pytest.raises(PermissionDenied):
            await world.directory.CreateApiKey(pb.CreateApiKeyRequest())
        with pytest.raises(PermissionDenied):
            await world.directory.CreateApiKey(pb.CreateApiKeyRequest(permissions=["kb:write"]))
        with pytest.raises(PermissionDenied):
            await world.directory.CreateUser(
                pb.CreateUserRequest(user=tenant_pb2.User(name="eve", roles=["viewer"]))
            )
        made = await world.directory.CreateApiKey(pb.CreateApiKeyRequest(permissions=["kb:read"]))
    found = await authenticate(world, made.secret)
    assert list(found.principal.permissions) == ["kb:read"]


async def test_admin_cannot_make_a_key_for_the_owner(world: World) -> None:
    owner = await world.tenant()
    admin = await world.member(owner, "admin")
    with calling_as(admin.principal), pytest.raises(PermissionDenied):
        await world.directory.CreateApiKey(pb.CreateApiKeyRequest(user_id=owner.user_id))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(
            pb.CreateApiKeyRequest(expire_time=Timestamp(seconds=1)), "expire_time", id="past"
        ),
        pytest.param(
            pb.CreateApiKeyRequest(permissions=["mesh:internal"]), "permissions", id="not held"
        ),
        pytest.param(pb.CreateApiKeyRequest(label="x" * 101), "label", id="long label"),
        pytest.param(pb.CreateApiKeyRequest(user_id="x"), "user_id", id="no id"),
    ],
)
async def test_key_with_a_wrong_field_is_refused(
    world: World, request_: pb.CreateApiKeyRequest, field: str
) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.directory.CreateApiKey(request_)
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_key_works_until_it_expires(world: World) -> None:
    owner = await world.tenant()
    until = datetime.now(UTC) + timedelta(hours=1)
    request = pb.CreateApiKeyRequest()
    request.expire_time.FromDatetime(until)
    with calling_as(owner.principal):
        key = await world.directory.CreateApiKey(request)
    found = await authenticate(world, key.secret)
    assert found.expire_time == key.api_key.expire_time == request.expire_time


async def test_keys_are_listed_newest_first_and_revoked_once(world: World) -> None:
    owner = await world.tenant()
    keys = [(await make_key(world, owner)).api_key for _ in range(3)]
    with calling_as(owner.principal):
        revoke = pb.RevokeApiKeyRequest(api_key_id=keys[0].api_key_id)
        first = await world.directory.RevokeApiKey(revoke)
        second = await world.directory.RevokeApiKey(revoke)
        listed, token = [], ""
        for _ in range(2):
            page = await world.directory.ListApiKeys(
                pb.ListApiKeysRequest(page=page_pb2.PageRequest(page_size=2, page_token=token))
            )
            listed += [(key.label, key.revoked) for key in page.api_keys]
            token = page.page.next_page_token
    assert first == second
    assert listed == [("a key", False), ("a key", False), ("a key", True), ("first key", False)]
    assert await audited(world) == [
        "tenant.created", *["api_key.created"] * 3, "api_key.revoked"
    ]  # fmt: skip


async def test_repeated_create_user_returns_the_first_one(world: World) -> None:
    owner = await world.tenant()
    request = pb.CreateUserRequest(
        user=tenant_pb2.User(name="ann", email="ann@example.org", roles=["member"]),
        request_id="r1",
    )
    with calling_as(owner.principal):
        first = await world.directory.CreateUser(request)
        second = await world.directory.CreateUser(request)
        for name, request_id, reason in (
            ("ann", "", "ALREADY_EXISTS"),
            ("ann", "r2", "ALREADY_EXISTS"),
            ("bob", "r1", "IDEMPOTENCY_KEY_REUSED"),
        ):
            with pytest.raises(AlreadyExists) as caught:
                await world.directory.CreateUser(
                    pb.CreateUserRequest(
                        user=tenant_pb2.User(name=name, roles=["member"]), request_id=request_id
                    )
                )
            assert caught.value.reason == reason
        # The request that failed for the name left nothing behind: its id is free.
        third = await world.directory.CreateUser(
            pb.CreateUserRequest(
                user=tenant_pb2.User(name="bob", roles=["member"]), request_id="r2"
            )
        )
    assert first == second
    assert third.user.name == "bob"
    assert await audited(world) == ["tenant.created", "user.created", "user.created"]


async def test_members_see_themselves_and_nobody_else(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    with calling_as(member.principal):
        myself = await world.directory.GetUser(pb.GetUserRequest())
        tenant = await world.directory.GetTenant(pb.GetTenantRequest())
        for other in (owner.user_id, stranger.user_id, new_id()):
            with pytest.raises(NotFound) as caught:
                await world.directory.GetUser(pb.GetUserRequest(user_id=other))
            assert caught.value.reason == "USER_NOT_FOUND"
        with pytest.raises(PermissionDenied):
            await world.directory.ListUsers(pb.ListUsersRequest())
    assert myself.user.user_id == member.user_id
    assert tenant.tenant.tenant_id == owner.tenant_id


async def test_keys_and_users_of_another_tenant_are_absent(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    key = await make_key(world, owner)
    with calling_as(stranger.principal):
        with pytest.raises(NotFound) as caught:
            await world.directory.RevokeApiKey(
                pb.RevokeApiKeyRequest(api_key_id=key.api_key.api_key_id)
            )
        assert caught.value.reason == "API_KEY_NOT_FOUND"
        with pytest.raises(NotFound):
            await world.directory.CreateApiKey(pb.CreateApiKeyRequest(user_id=owner.user_id))
        users = await world.directory.ListUsers(pb.ListUsersRequest())
        keys = await world.directory.ListApiKeys(pb.ListApiKeysRequest())
    assert [user.user_id for user in users.users] == [stranger.user_id]
    assert [key.user_id for key in keys.api_keys] == [stranger.user_id]
    await authenticate(world, key.secret)


async def make_key(world: World, owner: Member) -> pb.CreateApiKeyResponse:
    with calling_as(owner.principal):
        return await world.directory.CreateApiKey(pb.CreateApiKeyRequest(label="a key"))


async def audited(world: World) -> list[str]:
    """Return the actions reported so far, in order."""
    async with world.as_superuser() as connection:
        rows = await connection.fetch(
            "SELECT convert_from(body, 'UTF8')::jsonb->'data'->>'action' AS action"
            "  FROM events.outbox WHERE topic = 'audit.log' ORDER BY position"
        )
    return [str(row["action"]) for row in rows]
