"""What a process knows of quotas: fresh for seconds, good for minutes, asked for once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from meshwright.session.v1 import tenant_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common import quotas as quotas_module
from meshwright_common.clock import ManualClock
from meshwright_common.errors import (
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from meshwright_common.ids import new_id
from meshwright_common.quota_alerts import crossed, reached
from meshwright_common.quotas import Quotas, TenantQuota, TenantSuspended, quota_exceeded
from meshwright_common.rpc import status
from meshwright_common.settings import QuotaSettings
from meshwright_common.testing.mesh import serving
from meshwright_common.testing.quotas import QuotaDirectory

NIGHT = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)


@dataclass
class Asking:
    """A client and what answers it."""

    directory: QuotaDirectory
    quotas: Quotas
    clock: ManualClock
    tenant: str = field(default_factory=new_id)


@pytest_asyncio.fixture
async def asking(request: pytest.FixtureRequest) -> AsyncIterator[Asking]:
    settings: QuotaSettings = getattr(request, "param", QuotaSettings())
    directory, clock = QuotaDirectory(), ManualClock(NIGHT)
    async with serving(directory.register) as served:
        stub = DirectoryServiceStub(served.channels("chat").open("session"))
        yield Asking(directory, Quotas(stub, "chat", settings, clock), clock)


@pytest.mark.asyncio
async def test_an_answer_is_good_for_seconds_and_then_asked_for_again(asking: Asking) -> None:
    for seconds, asked in ((0, 1), (2.9, 1), (0.2, 2), (2.9, 2)):
        asking.clock.advance(seconds)
        await asking.quotas.of(asking.tenant)
        assert asked == len(asking.directory.asked)


@pytest.mark.asyncio
async def test_calls_that_come_together_ask_once_also_when_the_first_one_leaves(
    asking: Asking,
) -> None:
    asking.directory.gate = asyncio.Event()
    calls = [asyncio.ensure_future(asking.quotas.of(asking.tenant)) for _ in range(20)]
    await asyncio.wait_for(asking.directory.reached.wait(), 20)
    calls[0].cancel()
    asking.directory.gate.set()
    answers = await asyncio.gather(*calls[1:])
    assert {asking.tenant} == {one.tenant_id for one in answers}
    assert 1 == len(asking.directory.asked)


@pytest.mark.asyncio
async def test_the_last_answer_holds_while_the_directory_is_away_but_not_for_ever(
    asking: Asking,
) -> None:
    asking.directory.limits[asking.tenant] = tenant_pb2.Quota(max_concurrent_turns=3)
    await asking.quotas.of(asking.tenant)
    asking.directory.error = Unavailable("away")
    asking.clock.advance(299)
    assert 3 == (await asking.quotas.of(asking.tenant)).concurrent_turns
    asking.clock.advance(1)
    with pytest.raises(Unavailable):
        await asking.quotas.of(asking.tenant)
    with pytest.raises(Unavailable):
        await asking.quotas.of(new_id())


@pytest.mark.asyncio
@pytest.mark.parametrize("asking", [QuotaSettings(when_unknown="allow")], indirect=True)
async def test_what_is_not_known_is_allowed_when_the_settings_say_so(asking: Asking) -> None:
    asking.directory.error = Unavailable("away")
    assert 0 == (await asking.quotas.admit(asking.tenant)).concurrent_turns
    asking.directory.error = NotFound("there is no such tenant")
    with pytest.raises(NotFound):
        await asking.quotas.admit(asking.tenant)


@pytest.mark.asyncio
async def test_a_suspension_is_seen_within_the_seconds_of_an_answer(asking: Asking) -> None:
    await asking.quotas.admit(asking.tenant)
    asking.directory.suspended.add(asking.tenant)
    asking.clock.advance(4)
    with pytest.raises(TenantSuspended):
        await asking.quotas.admit(asking.tenant)
    asking.directory.suspended.clear()
    asking.clock.advance(4)
    await asking.quotas.admit(asking.tenant)


@pytest.mark.asyncio
async def test_spent_tokens_say_when_the_next_day_begins(asking: Asking) -> None:
    asking.directory.limits[asking.tenant] = tenant_pb2.Quota(max_tokens_per_day=10)
    asking.directory.used[asking.tenant] = tenant_pb2.Quota(max_tokens_per_day=10)
    with pytest.raises(QuotaExceeded) as refused:
        await asking.quotas.admit(asking.tenant)
    assert 30 == refused.value.retry_after_seconds


@pytest.mark.asyncio
async def test_what_is_kept_is_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "MOST_TENANTS", 2)
    first, *others = (new_id() for _ in range(3))
    for tenant in (first, *others):
        await asking.quotas.of(tenant)
    await asking.quotas.of(others[-1])
    assert 3 == len(asking.directory.asked)
    await asking.quotas.of(first)
    assert 4 == len(asking.directory.asked)


def test_an_answer_older_than_the_promise_cannot_be_set() -> None:
    with pytest.raises(ValueError, match="fresh_seconds"):
        QuotaSettings(fresh_seconds=4.1)
    with pytest.raises(ValueError, match="last_good_seconds"):
        QuotaSettings(last_good_seconds=301)


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        ((), "anything", True),
        (("*mini*",), "gpt-5-mini", True),
        (("*mini*",), "GPT-5-Mini", True),
        (("*mini*",), "gpt-5", False),
        (("gpt-5",), "gpt-5-mini", False),
        (("a*", "b"), "b", True),
    ],
)
def test_models_are_allowed_by_patterns(
    patterns: tuple[str, ...], name: str, allowed: bool
) -> None:
    quota = TenantQuota(
        tenant_id=new_id(),
        plan="starter",
        active=True,
        sessions=0,
        tokens_per_day=0,
        documents=0,
        storage_bytes=0,
        concurrent_turns=0,
        models=patterns,
        alert_percents=(),
    )
    assert allowed is quota.allows_model(name)


def test_shares_are_reached_and_crossed_exactly() -> None:
    percents = (80, 90, 100)
    assert [] == reached(79, 100, percents)
    assert [80] == reached(80, 100, percents)
    assert [80, 90, 100] == reached(3, 3, percents)
    assert [] == reached(5, 0, percents)
    assert crossed(79, 80, 100, percents)
    assert not crossed(80, 89, 100, percents)
    assert crossed(0, 100, 100, percents)


def test_a_used_up_quota_travels_with_its_failure_detail() -> None:
    error = quota_exceeded("documents", used=1000, limit=1000, plan="starter", tenant_id=new_id())
    sent = status.to_status(error)
    raw = dict(sent.trailing_metadata)[status.DETAILS_KEY]
    assert isinstance(raw, bytes)
    failure = error_details_pb2.QuotaFailure()
    rich = status_pb2.Status.FromString(raw)
    assert 1 == sum(detail.Unpack(failure) for detail in rich.details)
    [violation] = failure.violations
    assert ("documents", 1000, f"tenant:{error.metadata['tenant_id']}") == (
        violation.quota_id,
        violation.quota_value,
        violation.subject,
    )
    assert "1000 of 1000 documents" in error.message


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="when_unknown"):
        QuotaSettings(when_unknown="maybe")  # type: ignore[arg-type]
