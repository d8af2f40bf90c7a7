"""Erasures between workers that die, services that are away, and events that come late (S12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
import pytest

from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL, CallContext
from meshwright_common.erasure.receipt import verifies
from meshwright_common.erasure.stored import Subject
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.erased_subjects import (
    MindfulNotificationIntake,
    MindfulTaskCounter,
    MindfulUsageLedger,
)
from meshwright_session.adapters.postgres_erasure_work import PostgresErasureWork
from meshwright_session.adapters.postgres_erasures import PostgresErasures
from meshwright_session.adapters.store_erasers import OwnStores
from meshwright_session.adapters.tenant_end import PostgresTenantEnd
from meshwright_session.domain.acts import Act
from meshwright_session.domain.erasure import ErasureRounds
from meshwright_session.domain.erasure_models import Erasure, ErasureLease, Look
from meshwright_session.domain.errors import LastOwner, LeaseLost, UserNotFound
from meshwright_session.domain.kept_copies import NOBODY, Retention
from meshwright_session.domain.notification_models import NewNotification
from meshwright_session.domain.task_statistics import TaskEnd
from meshwright_session.domain.usage_models import Tokens, UsageRow
from services.session.tests.world import Member, World

pytestmark = pytest.mark.asyncio

RETENTION: Final = Retention(
    audit=timedelta(days=180),
    receipts=timedelta(days=180),
    topics={"audit.log": timedelta(days=180)},
    audit_topic="audit.log",
    relayed=False,
)
ACT: Final = Act("user.erased", "user/somebody")


class Shelf:
    """A store at hand: what it has of anybody, and whether it can be reached."""

    name = "shelf"

    def __init__(self, count: int) -> None:
        self.count = count
        self.is_away = False

    async def erase(self, subject: Subject) -> int:
        if self.is_away:
            raise Unavailable("the shelf cannot be reached")
        removed, self.count = self.count, 0
        return removed

    async def remaining(self, subject: Subject) -> int:
        return self.count


def work_of(world: World, *, lease_seconds: float = 30) -> PostgresErasureWork:
    return PostgresErasureWork(world.database, world.signer, RETENTION, lease_seconds=lease_seconds)


def rounds_of(world: World, shelf: Shelf, *, settle_seconds: float = 0) -> ErasureRounds:
    return ErasureRounds(
        work=work_of(world),
        services=(OwnStores((shelf,)),),
        tenant_end=PostgresTenantEnd(world.database, world.keys),
        settle_seconds=settle_seconds,
    )


def acting_in(tenant_id: str) -> CallContext:
    return context.service_context("session", tenant_id, (MESH_INTERNAL,), timeout_seconds=None)


async def begin(world: World, tenant_id: str, user_id: str) -> Erasure:
    with context.bind(acting_in(tenant_id)):
        return await PostgresErasures(world.database).begin_user(
            tenant_id, user_id, new_id(), keep_documents=False, act=ACT
        )


async def begun(world: World) -> tuple[Member, Erasure]:
    owner = await world.tenant()
    member = await world.member(owner)
    return member, await begin(world, owner.tenant_id, member.user_id)


async def state(world: World, erasure: Erasure) -> Erasure:
    return await PostgresErasures(world.database).get(erasure.tenant_id, erasure.erasure_id)


async def run_due(world: World, rounds: ErasureRounds, erasure: Erasure) -> Erasure:
    """Do a round of the erasure now, whenever it is due."""
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE erasures SET due_time = now() WHERE erasure_id = $1", erasure.erasure_id
        )
    [lease] = [one for one in await rounds.work.claim(50) if one.erasure_id == erasure.erasure_id]
    with context.bind(acting_in(erasure.tenant_id)):
        await rounds.run(lease)
    return await state(world, erasure)


async def test_only_a_look_that_finds_nothing_and_removes_nothing_is_the_last(
    world: World,
) -> None:
    _, erasure = await begun(world)
    shelf = Shelf(3)
    rounds = rounds_of(world, shelf)
    assert (await run_due(world, rounds, erasure)).state == "settling"
    shelf.count = 2
    assert (await run_due(world, rounds, erasure)).state == "settling"
    done = await run_due(world, rounds, erasure)
    assert done.state == "completed"
    assert [(one.store, one.removed, one.remaining) for one in done.stores] == [("shelf", 5, 0)]
    receipt = orjson.loads(done.receipt)
    assert verifies(receipt, world.signer.keys)
    assert receipt["stores"] == [{"service": "session", "store": "shelf", "removed_count": "5"}]


async def test_a_store_that_is_away_is_named_and_waited_for(world: World) -> None:
    _, erasure = await begun(world)
    shelf = Shelf(1)
    shelf.is_away = True
    rounds = rounds_of(world, shelf)
    await run_due(world, rounds, erasure)
    waiting = await run_due(world, rounds, erasure)
    assert (waiting.state, waiting.receipt) == ("erasing", "")
    assert "session: the shelf cannot be reached" in waiting.last_error
    pause = waiting.due_time - datetime.now(UTC)
    assert timedelta(seconds=0.5) < pause < timedelta(seconds=30)
    shelf.is_away = False
    settled = await run_due(world, rounds, erasure)
    assert (settled.state, settled.last_error) == ("settling", "")


async def test_who_lost_the_lease_writes_nothing(world: World) -> None:
    _, erasure = await begun(world)
    hasty, patient = work_of(world, lease_seconds=0), work_of(world)
    old = await lease_of(hasty, erasure)
    new = await lease_of(patient, erasure)
    assert new.epoch == old.epoch + 1
    assert await patient.claim(50) == []
    with context.bind(acting_in(erasure.tenant_id)):
        for late in (
            hasty.note(old, Look(()), settling=True, delay_seconds=0),
            hasty.complete(old, Look(()), ACT),
            hasty.renew(old),
        ):
            with pytest.raises(LeaseLost):
                await late
        await patient.complete(new, Look(()), ACT)
        with pytest.raises(LeaseLost):
            await patient.complete(new, Look(()), ACT)


async def lease_of(work: PostgresErasureWork, erasure: Erasure) -> ErasureLease:
    return next(one for one in await work.claim(50) if one.erasure_id == erasure.erasure_id)


async def test_a_request_fences_is_repeatable_and_spares_the_last_owner(world: World) -> None:
    member, erasure = await begun(world)
    assert (await begin(world, member.tenant_id, member.user_id)).erasure_id == erasure.erasure_id
    async with world.as_superuser() as connection:
        assert await connection.fetchval(
            "SELECT disabled FROM users WHERE user_id = $1", member.user_id
        )
    owner = await world.tenant()
    with pytest.raises(LastOwner):
        await begin(world, owner.tenant_id, owner.user_id)
    with pytest.raises(UserNotFound):
        await begin(world, owner.tenant_id, member.user_id)
    second = await world.member(owner, "owner")
    await begin(world, owner.tenant_id, owner.user_id)
    with pytest.raises(LastOwner):
        await begin(world, owner.tenant_id, second.user_id)


async def test_late_events_of_an_erased_user_bring_nobody_back(world: World) -> None:
    member, _ = await begun(world)
    await hear(world, member.tenant_id, member.user_id)
    async with world.as_superuser() as connection:
        for table in ("usage_ledger", "usage_daily", "task_daily"):
            users = await connection.fetch(
                f"SELECT DISTINCT user_id FROM {table} WHERE tenant_id = $1",  # noqa: S608
                member.tenant_id,
            )
            assert [row["user_id"] for row in users] == [NOBODY], table
        assert await told(world, member.tenant_id) == 0


async def test_late_events_of_an_erased_tenant_are_dropped(world: World) -> None:
    owner = await world.tenant()
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        slug = await connection.fetchval(
            "SELECT slug FROM tenants WHERE tenant_id = $1", owner.tenant_id
        )
    with context.bind(acting_in(owner.tenant_id)):
        await PostgresErasures(world.database).begin_tenant(
            owner.tenant_id, slug, new_id(), act=ACT
        )
    await hear(world, owner.tenant_id, owner.user_id)
    async with world.as_superuser() as connection:
        for table in ("usage_ledger", "usage_calls", "usage_daily", "task_daily"):
            count = await connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE tenant_id = $1",  # noqa: S608
                owner.tenant_id,
            )
            assert count == 0, table
    assert await told(world, owner.tenant_id) == 0


async def told(world: World, tenant_id: str) -> int:
    async with unit_of_work(world.database, tenant_id) as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM notifications WHERE tenant_id = $1", tenant_id
            )
        )


async def hear(world: World, tenant_id: str, user_id: str) -> None:
    """Let the consumers' stores hear of usage, the end of a task, and something to tell."""
    now = datetime.now(UTC)
    usage = UsageRow(
        tenant_id=tenant_id,
        event_id=new_id(),
        time=now,
        user_id=user_id,
        session_id=new_id(),
        feature="chat",
        operation="generate",
        model="offline",
        deployment="offline",
        provider="offline",
        outcome="completed",
        task_id=new_id(),
        step=1,
        attempt=1,
        tokens=Tokens(1, 1, 0, 0, 0, False),
        first_token_milliseconds=1,
        duration_milliseconds=1,
        counted_tokens=3,
        counted_micro_usd=4,
    )
    end = TaskEnd(tenant_id, now, user_id, "chat", "completed", 2, 0, 1)
    notice = NewNotification(
        tenant_id=tenant_id,
        notification_id=new_id(),
        time=now,
        user_id=user_id,
        kind="task.completed",
        title="It is done.",
        resource="",
        details={},
    )
    async with unit_of_work(world.database, tenant_id) as connection:
        await MindfulUsageLedger(connection).record_all([usage])
        await MindfulTaskCounter(connection).count([end])
        await MindfulNotificationIntake(connection, kept=10).add_all([notice])
