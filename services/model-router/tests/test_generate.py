"""Generate through the stub, on a real database, in front of the simulated provider."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import SUBSTRATES, calling_as, collect
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.postgres_usage import open_usage_log
from meshwright_model_router.domain.budgets import Free, unheld
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import Attribution, Operation, Outcome, UsageRecord

if TYPE_CHECKING:
    from tests.conftest import Router


def text_of(events: list[generation_pb2.GenerateEvent]) -> str:
    return "".join(event.delta.text for event in events)


@pytest.mark.asyncio
@pytest.mark.parametrize("substrate", SUBSTRATES)
async def test_stream_starts_brings_text_and_finishes_with_its_price(router: Router) -> None:
    task_id = new_id()
    events = await router.generate(router.question("hello", "sim-n5", task_id=task_id))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", *["delta"] * (len(kinds) - 2), "finished"]
    assert events[0].started.deployment == "sim-*"
    assert events[0].started.model == "sim-n5"
    assert len(text_of(events)) == 50
    finished = events[-1].finished
    assert finished.finish_reason == generation_pb2.FINISH_REASON_STOP
    assert finished.usage.completion_tokens == 5
    assert finished.usage.cost_micro_usd == finished.usage.prompt_tokens + 10
    assert not finished.usage.estimated
    (row,) = await router.rows()
    assert row["task_id"] == task_id
    assert row["outcome"] == "completed"
    assert row["cost_micro_usd"] == finished.usage.cost_micro_usd
    (event,) = await router.events()
    assert event.task_id == task_id
    assert event.completion_tokens == 5
    assert event.outcome == "completed"
    assert event.user_id == row["user_id"] != ""


@pytest.mark.asyncio
async def test_tool_calls_are_put_together_at_the_end(router: Router) -> None:
    arguments = b'{"q": "x"}'.hex()
    events = await router.generate(router.question("go", f"sim-tool:search-args:{arguments}"))
    finished = events[-1].finished
    assert finished.finish_reason == generation_pb2.FINISH_REASON_TOOL_CALLS
    assert [call.name for call in finished.tool_calls] == ["search"]
    assert finished.tool_calls[0].arguments_json == '{"q": "x"}'
    pieces = "".join(part.arguments_json for event in events for part in event.delta.tool_calls)
    assert pieces == '{"q": "x"}'


@pytest.mark.asyncio
async def test_same_step_is_charged_once_and_counted_each_time(router: Router) -> None:
    """R-04: whoever repeats a call pays once, also in a later attempt at the step.

    R-19: what it used counts all the same.
    """
    task_id = new_id()
    for _ in range(3):
        await router.generate(router.question("hello", "sim-n5", task_id=task_id))
    await router.generate(router.question("hello", "sim-n5", task_id=task_id, attempt=2))
    await router.generate(router.question("hello", "sim-n5", task_id=task_id, step=2))
    rows = [
        (row["step"], row["attempt"], row["number"], row["repeated_by_platform"])
        for row in await router.rows()
    ]
    assert sorted(rows) == [
        (1, 1, 1, False),
        (1, 1, 2, True),
        (1, 1, 3, True),
        (1, 2, 1, True),
        (2, 1, 1, False),
    ]
    told = [
        (one.step, one.attempt, one.number, one.repeated_by_platform)
        for one in await router.events()
    ]
    assert sorted(told) == sorted(rows)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("first", "is_free"),
    [("sim-n9-truncate5", True), ("sim-err503", False)],
    ids=["a part was told", "nothing was told"],
)
async def test_later_attempt_is_free_if_the_earlier_one_was_charged(
    router: Router, first: str, is_free: bool
) -> None:
    """R-04: an attempt that died amid the answer was the platform's, and so is doing it again."""
    task_id = new_id()
    with suppress(ServiceError):
        await router.generate(router.question("hello", first, task_id=task_id))

    async def is_recorded() -> bool:
        return bool(await router.rows())

    await eventually(is_recorded)
    await router.generate(router.question("hello", "sim-n5", task_id=task_id, attempt=2))
    again = [row["repeated_by_platform"] for row in await router.rows() if row["attempt"] == 2]
    assert again == [is_free]


@pytest.mark.asyncio
async def test_calls_without_a_task_are_all_recorded(router: Router) -> None:
    for _ in range(3):
        await router.generate(router.question("hello", "sim-n1"))
    assert len(await router.rows()) == 3


@pytest.mark.asyncio
async def test_calls_at_once_are_each_recorded_once_in_few_transactions(router: Router) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(router.generate(router.question("hello", "sim-n3")))
    assert len(await router.rows()) == 200
    assert len(await router.events()) == 200
    async with unit_of_work(router.database, router.tenant) as connection:
        transactions = await connection.fetchval(
            "SELECT count(DISTINCT transaction_id) FROM events.outbox WHERE tenant_id = $1",
            router.tenant,
        )
    assert transactions < 100


@pytest.mark.asyncio
async def test_other_tenants_see_nothing_of_it(router: Router) -> None:
    await router.generate(router.question("hello", "sim-n1"))
    assert await router.rows(new_id()) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("substrate", SUBSTRATES)
async def test_caller_that_leaves_stops_the_provider_and_is_charged_what_it_got(
    router: Router,
) -> None:
    """R-14: upstream closed within 2 s, what was produced is counted."""
    request = router.question("hello", "sim-n5000-tps200")
    received = 0
    with calling_as(router.tenant, "model:invoke"):
        async with open_stream(router.stub.Generate(request)) as responses:
            async for response in responses:
                received += len(response.event.delta.text)
                if received >= 200:
                    break
    await eventually(lambda: router.provider.counters.abandoned == 1)

    async def recorded() -> bool:
        return len(await router.rows()) == 1

    await eventually(recorded)
    (row,) = await router.rows()
    assert row["outcome"] == "cancelled"
    assert row["estimated"] is True
    assert received // 4 <= int(str(row["completion_tokens"])) <= 5000
    assert int(str(row["prompt_tokens"])) > 0
    assert len(await router.events()) == 1


@pytest.mark.asyncio
async def test_caller_that_leaves_before_the_first_piece_is_recorded(router: Router) -> None:
    with pytest.raises(ServiceError) as raised:
        await router.generate(router.question("hello", "sim-hang"), timeout_seconds=0.3)
    assert raised.value.reason == "DEADLINE_EXCEEDED"

    async def recorded() -> bool:
        return [row["outcome"] for row in await router.rows()] in (["cancelled"], ["failed"])

    await eventually(recorded)


@pytest.mark.asyncio
async def test_failure_before_the_first_piece_is_repeated_and_each_request_recorded(
    router: Router,
) -> None:
    events = await router.generate(router.question("hello", "sim-n3-err503-fails2"))
    assert events[-1].WhichOneof("event") == "finished"
    assert router.provider.counters.chat == 3

    async def recorded() -> bool:
        return len(await router.rows()) == 3

    await eventually(recorded)
    told = [
        (row["number"], row["outcome"], row["repeated_by_platform"]) for row in await router.rows()
    ]
    assert sorted(told) == [
        (1, "failed", True),
        (2, "failed", True),
        (3, "completed", False),
    ]


@pytest.mark.asyncio
async def test_stream_that_breaks_before_its_first_piece_is_repeated(router: Router) -> None:
    events = await router.generate(router.question("hello", "sim-n3-truncate0-fails1"))
    assert len(text_of(events)) == 30
    assert [event.WhichOneof("event") for event in events].count("started") == 1
    assert router.provider.counters.chat == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("directive", "reason", "requests"),
    [
        ("sim-err503", "PROVIDER_UNAVAILABLE", 3),
        ("sim-err500", "PROVIDER_UNAVAILABLE", 3),
        ("sim-err429-retryafter3600", "PROVIDER_RATE_LIMIT", 1),
        ("sim-err401", "PROVIDER_CREDENTIALS", 1),
        ("sim-err400", "PROVIDER_REJECTED", 1),
        ("sim-n3-sse:badjson", "PROVIDER_PROTOCOL", 3),
    ],
)
async def test_failure_is_told_after_three_attempts_at_most(
    router: Router, directive: str, reason: str, requests: int
) -> None:
    """F-52, F-53: at most three requests before the first piece, then a typed error."""
    with pytest.raises(ServiceError) as raised:
        await router.generate(router.question("hello", directive))
    assert raised.value.reason == reason
    assert router.provider.counters.chat == requests

    async def recorded() -> bool:
        return len(await router.rows()) == requests

    await eventually(recorded)
    for row in await router.rows():
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("failed", 0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", ["truncate5", "reset5", "fault5"])
async def test_failure_after_the_first_piece_is_not_repeated(router: Router, cut: str) -> None:
    responses: list[model_service_pb2.GenerateResponse] = []
    request = router.question("hello", f"sim-n20-tps500-{cut}")
    with calling_as(router.tenant, "model:invoke"), pytest.raises(ServiceError) as raised:
        await collect(router.stub.Generate(request), responses)
    assert raised.value.reason in {"PROVIDER_TRUNCATED", "PROVIDER_UNAVAILABLE"}
    kinds = {response.event.WhichOneof("event") for response in responses}
    assert kinds == {"started", "delta"}
    assert router.provider.counters.chat == 1

    async def recorded() -> bool:
        return [row["outcome"] for row in await router.rows()] == ["failed"]

    await eventually(recorded)
    (row,) = await router.rows()
    assert row["estimated"] is True
    assert int(str(row["completion_tokens"])) > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("usage", ["missing", "negative", "absurd", "text"])
async def test_usage_that_cannot_be_true_is_counted_by_us(router: Router, usage: str) -> None:
    """F-57."""
    events = await router.generate(router.question("hello", f"sim-n8-usage:{usage}"))
    counted = events[-1].finished.usage
    assert counted.estimated
    assert counted.completion_tokens == 20  # 80 characters
    assert [row["completion_tokens"] for row in await router.rows()] == [20]


@pytest.mark.asyncio
async def test_unknown_model_lists_what_exists(router: Router) -> None:
    with pytest.raises(ServiceError) as raised:
        await router.generate(router.question("hello", "gpt-99"))
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "offline" in raised.value.message
    assert "sim-*" in raised.value.message
    assert await router.rows() == []


@pytest.mark.asyncio
async def test_default_model_is_the_offline_one(router: Router) -> None:
    events = await router.generate(router.question("Hello"))
    assert events[0].started.model == "offline"
    assert "offline model" in text_of(events)
    (row,) = await router.rows()
    assert (row["provider"], row["cost_micro_usd"]) == ("offline", 0)


@pytest.mark.asyncio
async def test_text_does_not_wait_for_the_record_and_the_end_does(
    router: Router, database_url: DatabaseSettings
) -> None:
    """S5: no token waits for a write; the end is told when the record is durable."""
    # The first call of a day reads what the ledger has of it.
    await router.generate(router.question("hi", "sim-n1"))
    owner = await asyncpg.connect(database_url.url_for("owner"))
    try:
        lock = owner.transaction()
        await lock.start()
        await owner.execute("LOCK TABLE model_router.model_usage IN ACCESS EXCLUSIVE MODE")
        with calling_as(router.tenant, "model:invoke"):
            async with open_stream(router.stub.Generate(router.question("hi", "sim-n5"))) as stream:
                kinds = []
                text = 0
                async for response in stream:
                    kinds.append(response.event.WhichOneof("event"))
                    text += len(response.event.delta.text)
                    if text == 50 and not owner.is_closed():
                        await owner.close()  # ends the lock
        assert kinds[-1] == "finished"
    finally:
        await owner.close()
    assert len(await router.rows()) == 2


@pytest.mark.asyncio
async def test_records_that_wait_are_written_before_an_orderly_end(
    database_url: DatabaseSettings,
) -> None:
    tenant = new_id()
    async with open_database(database_url, "model-router") as database:
        async with open_usage_log(database) as log:
            for step in range(1, 501):
                log.submit(record(tenant, Attribution(new_id(), step)))
        async with unit_of_work(database, tenant) as connection:
            written = await connection.fetchval(
                "SELECT count(*) FROM model_router.model_usage WHERE tenant_id = $1", tenant
            )
    assert written == 500


@pytest.mark.asyncio
async def test_same_record_twice_in_one_batch_is_one_row_and_one_event(
    database_url: DatabaseSettings,
) -> None:
    tenant, attribution = new_id(), Attribution(new_id())
    async with open_database(database_url, "model-router") as database:
        async with open_usage_log(database) as log:
            reservation = Free(unheld(datetime.now(UTC)))
            for _ in range(5):
                log.submit(record(tenant, attribution), reservation)
            await log.settle(record(tenant, attribution), reservation)
        async with unit_of_work(database, tenant) as connection:
            counts = await connection.fetchrow(
                "SELECT (SELECT count(*) FROM model_router.model_usage WHERE tenant_id = $1),"
                " (SELECT count(*) FROM events.outbox WHERE tenant_id = $1)",
                tenant,
            )
    assert counts is not None
    assert tuple(counts) == (1, 1)


def record(tenant: str, attribution: Attribution) -> UsageRecord:
    return UsageRecord(
        tenant_id=tenant,
        user_id=new_id(),
        correlation_id=new_id(),
        attribution=attribution,
        operation=Operation.GENERATE,
        outcome=Outcome.COMPLETED,
        model="m",
        deployment="m",
        provider="openai",
        usage=TokenUsage(1, 1),
        first_token_milliseconds=1,
        duration_milliseconds=2,
    )
