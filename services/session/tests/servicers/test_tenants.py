"""Tenants as their operator handles them: plans, agreed limits, suspension, users changed."""

import asyncio

import orjson
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.context import Principal
from meshwright_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unauthenticated,
)
from meshwright_common.identity import api_keys
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_session.domain.roles import permissions_of
from services.session.tests.world import MESH, Member, World

pytestmark = pytest.mark.asyncio

ENTERPRISE, PROFESSIONAL = tenant_pb2.PLAN_ENTERPRISE, tenant_pb2.PLAN_PROFESSIONAL


async def update(world: World, member: Member, *paths: str, **fields: object) -> tenant_pb2.Tenant:
    """Change a tenant as its operator."""
    tenant = tenant_pb2.Tenant(tenant_id=member.tenant_id, **fields)  # type: ignore[arg-type]
    request = pb.UpdateTenantRequest(tenant=tenant, update_mask=FieldMask(paths=paths))
    with calling_as(MESH):
        return (await world.directory.UpdateTenant(request)).tenant


async def quota(
    world: World, member: Member, *, for_admission: bool = False
) -> pb.GetQuotaResponse:
    with calling_as(member.principal):
        return await world.directory.GetQuota(pb.GetQuotaRequest(for_admission=for_admission))


async def change_user(
    world: World, caller: Member, user_id: str, *paths: str, **fields: object
) -> tenant_pb2.User:
    user = tenant_pb2.User(user_id=user_id, **fields)  # type: ignore[arg-type]
    request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=paths))
    with calling_as(caller.principal):
        return (await world.directory.UpdateUser(request)).user


async def acts(world: World, member: Member) -> list[tuple[str, dict[str, object]]]:
    """Return what was reported to the audit log, in order."""
    async with unit_of_work(world.database, member.tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = 'audit.log'"
            " ORDER BY position",
            member.tenant_id,
        )
    told = [orjson.loads(row["body"])["data"] for row in rows]
    return [(one["action"], one["details"]) for one in told]


async def test_an_operator_changes_what_the_mask_names_and_each_act_is_on_record(
    world: World,
) -> None:
    owner = await world.tenant()
    changed = await update(
        world, owner, "plan", "display_name", plan=PROFESSIONAL, display_name="Acme", suspended=True
    )
    assert (PROFESSIONAL, "Acme", False) == (changed.plan, changed.display_name, changed.suspended)
    await update(world, owner, "plan", plan=PROFESSIONAL)
    agreed = tenant_pb2.AgreedQuota(max_sessions=7, max_documents=0)
    changed = await update(world, owner, "agreed_quota.max_sessions", agreed_quota=agreed)
    assert changed.agreed_quota == tenant_pb2.AgreedQuota(max_sessions=7)
    changed = await update(world, owner, "suspended", suspended=True)
    assert tenant_pb2.TENANT_STATE_SUSPENDED == changed.state
    changed = await update(world, owner, "suspended")
    assert tenant_pb2.TENANT_STATE_ACTIVE == changed.state
    assert [
        ("tenant.updated", {"plan": "professional", "display_name_changed": True}),
        ("tenant.updated", {"agreed.sessions": 7}),
        ("tenant.suspended", {"suspended": True}),
        ("tenant.resumed", {"suspended": False}),
    ] == (await acts(world, owner))[1:]


async def test_without_a_mask_plan_and_suspension_are_taken(world: World) -> None:
    owner = await world.tenant()
    changed = await update(world, owner, suspended=True, display_name="not taken")
    assert (tenant_pb2.PLAN_STARTER, True, "") == (
        changed.plan,
        changed.suspended,
        changed.display_name,
    )


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        (["slug"], {}, "update_mask"),
        (["agreed_quota.max_users"], {}, "update_mask"),
        (["display_name"], {"display_name": "x" * 201}, "tenant.display_name"),
        (
            ["agreed_quota"],
            {"agreed_quota": tenant_pb2.AgreedQuota(max_sessions=-1)},
            "tenant.agreed_quota.max_sessions",
        ),
        (
            ["agreed_quota"],
            {
                "agreed_quota": tenant_pb2.AgreedQuota(
                    allowed_models=tenant_pb2.ModelNames(names=["a b"])
                )
            },
            "tenant.agreed_quota.allowed_models.names[0]",
        ),
    ],
)
async def test_a_wrong_change_names_its_field(
    world: World, paths: list[str], fields: dict[str, object], field: str
) -> None:
    owner = await world.tenant()
    with pytest.raises(InvalidArgument) as caught:
        await update(world, owner, *paths, **fields)
    assert [field] == [one.field for one in caught.value.field_violations]


async def test_a_tenant_being_deleted_is_not_changed_and_lets_nobody_in(world: World) -> None:
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE tenants SET state = 'deleting' WHERE tenant_id = $1", owner.tenant_id
        )
    with pytest.raises(FailedPrecondition) as caught:
        await update(world, owner, "suspended")
    assert "TENANT_SUSPENDED" == caught.value.reason
    with calling_as(MESH), pytest.raises(FailedPrecondition):
        await world.directory.AuthenticateApiKey(
            pb.AuthenticateApiKeyRequest(api_key_sha256=api_keys.digest(owner.api_key))
        )
    answer = await quota(world, owner, for_admission=True)
    assert tenant_pb2.TENANT_STATE_DELETING == answer.state


async def test_an_absent_tenant_is_not_found(world: World) -> None:
    nobody = Member(Principal(new_id(), new_id(), "user", frozenset()))
    with pytest.raises(NotFound):
        await update(world, nobody, "suspended", suspended=True)


async def test_tenants_are_listed_by_slug_and_found_by_slug_or_id(world: World) -> None:
    made = {slug: await world.tenant(slug) for slug in ("b", "a", "c")}
    with calling_as(MESH):
        first = await world.directory.ListTenants(
            pb.ListTenantsRequest(page=page_pb2.PageRequest(page_size=2))
        )
        rest = await world.directory.ListTenants(
            pb.ListTenantsRequest(
                page=page_pb2.PageRequest(page_size=2, page_token=first.page.next_page_token)
            )
        )
        assert ["a", "b", "c"] == [one.slug for one in (*first.tenants, *rest.tenants)]
        for name in ("b", made["b"].tenant_id):
            found = await world.directory.ListTenants(pb.ListTenantsRequest(name=name))
            assert [made["b"].tenant_id] == [one.tenant_id for one in found.tenants]
    with calling_as(made["a"].principal), pytest.raises(PermissionDenied):
        await world.directory.ListTenants(pb.ListTenantsRequest())


async def test_a_quota_is_the_plans_with_the_agreed_limits_in_place(world: World) -> None:
    owner = await world.tenant()
    await world.session(owner)
    answer = await quota(world, owner)
    assert (100, 500_000, 1000, 1024**3, 3) == (
        answer.quota.max_sessions,
        answer.quota.max_tokens_per_day,
        answer.quota.max_documents,
        answer.quota.max_storage_bytes,
        answer.quota.max_concurrent_turns,
    )
    assert "*mini*" in answer.quota.allowed_models
    assert (1, 0) == (answer.used.max_sessions, answer.used.max_tokens_per_day)
    # Nobody was asked here; where services run, they answer.
    assert {"max_documents", "max_storage_bytes", "max_concurrent_turns"} == set(answer.unknown)
    assert [80, 90, 100] == list(answer.alert_percents)
    agreed = tenant_pb2.AgreedQuota(
        max_sessions=0, allowed_models=tenant_pb2.ModelNames(names=["Big-*"])
    )
    await update(world, owner, "agreed_quota", agreed_quota=agreed)
    answer = await quota(world, owner)
    assert (0, 500_000) == (answer.quota.max_sessions, answer.quota.max_tokens_per_day)
    assert ["big-*"] == list(answer.quota.allowed_models)
    await update(world, owner, "plan", "agreed_quota", plan=ENTERPRISE)
    answer = await quota(world, owner)
    assert (0, 0, 100, []) == (
        answer.quota.max_sessions,
        answer.quota.max_tokens_per_day,
        answer.quota.max_concurrent_turns,
        list(answer.quota.allowed_models),
    )


async def test_nobody_makes_or_changes_somebody_who_holds_more(world: World) -> None:
    owner = await world.tenant()
    admin = await world.member(owner, "admin")
    member = await world.member(owner)
    changed = await change_user(world, admin, member.user_id, "roles", roles=["viewer"])
    assert ["viewer"] == list(changed.roles)
    for user_id, paths, fields in (
        (member.user_id, ["roles"], {"roles": ["owner"]}),
        (admin.user_id, ["roles"], {"roles": ["owner", "admin"]}),
        (owner.user_id, ["roles"], {"roles": ["member"]}),
        (owner.user_id, ["disabled"], {"disabled": True}),
        (owner.user_id, ["email"], {"email": "me@example.org"}),
    ):
        with pytest.raises(PermissionDenied):
            await change_user(world, admin, user_id, *paths, **fields)
    with pytest.raises(PermissionDenied):
        await change_user(world, member, member.user_id, "name", name="somebody")


async def test_a_user_is_changed_by_mask_and_the_act_holds_no_address(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    changed = await change_user(
        world, owner, member.user_id, "name", "email", name="Ada", email="ada@example.org"
    )
    assert ("Ada", "ada@example.org", ["member"]) == (
        changed.name,
        changed.email,
        list(changed.roles),
    )
    assert ("user.updated", {"name_changed": True, "email_changed": True}) == (
        await acts(world, owner)
    )[-1]
    with pytest.raises(AlreadyExists):
        await change_user(world, owner, member.user_id, "name", name="admin")
    with pytest.raises(NotFound):
        await change_user(world, owner, new_id(), "name", name="Bob")
    for paths, fields, field in (
        ([], {}, "update_mask"),
        (["user_id"], {}, "update_mask"),
        (["roles"], {"roles": ["king"]}, "user.roles"),
        (["roles"], {}, "user.roles"),
        (["email"], {"email": "no address"}, "user.email"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await change_user(world, owner, member.user_id, *paths, **fields)
        assert [field] == [one.field for one in caught.value.field_violations]


async def test_the_last_owner_stays_whoever_tries_at_once(world: World) -> None:
    owner = await world.tenant()
    for paths, fields in ((["disabled"], {"disabled": True}), (["roles"], {"roles": ["admin"]})):
        with pytest.raises(FailedPrecondition) as caught:
            await change_user(world, owner, owner.user_id, *paths, **fields)
        assert "LAST_OWNER" == caught.value.reason
    other = await world.member(owner, "owner")

    async def demote(caller: Member, user_id: str) -> str:
        try:
            await change_user(world, caller, user_id, "disabled", disabled=True)
        except ServiceError as error:
            return error.reason
        return ""

    got = await asyncio.gather(demote(owner, other.user_id), demote(other, owner.user_id))
    assert ["", "LAST_OWNER"] == sorted(got)


async def test_confirming_a_user_tells_what_is_left_of_its_rights(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    request = pb.ConfirmUserRequest(tenant_id=owner.tenant_id, user_id=member.user_id)
    await change_user(world, owner, member.user_id, "roles", roles=["viewer"])
    with calling_as(MESH):
        answer = await world.directory.ConfirmUser(request)
    assert permissions_of(["viewer"]) == set(answer.principal.permissions)
    await change_user(world, owner, member.user_id, "disabled", disabled=True)
    with calling_as(MESH), pytest.raises(Unauthenticated):
        await world.directory.ConfirmUser(request)
    await change_user(world, owner, member.user_id, "disabled", disabled=False)
    await update(world, owner, "suspended", suspended=True)
    with calling_as(MESH), pytest.raises(FailedPrecondition):
        await world.directory.ConfirmUser(request)
    absent = pb.ConfirmUserRequest(tenant_id=new_id(), user_id=member.user_id)
    with calling_as(MESH), pytest.raises(Unauthenticated):
        await world.directory.ConfirmUser(absent)
