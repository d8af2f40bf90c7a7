"""GuardService and Generate through the stubs, on a real database, in front of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import generation_pb2, guard_service_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import SettingsError
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.settings import Settings

if TYPE_CHECKING:
    from tests.guards.conftest import Replica, Served


BLOCK, REDACT = guard_service_pb2.GUARD_ACTION_BLOCK, guard_service_pb2.GUARD_ACTION_REDACT
INPUT, OUTPUT = guard_service_pb2.GUARD_SIDE_INPUT, guard_service_pb2.GUARD_SIDE_OUTPUT
FILE = "guards: [{name: house, action: block, words: {phrases: ['']}}]"


@contextmanager
def refused(reason: str, *words: str) -> Iterator[None]:
    """Expect an error of this reason, whose text has these words."""
    with pytest.raises(ServiceError) as caught:
        yield
    assert caught.value.reason == reason
    for word in words:
        assert word in caught.value.message


def phrases(
    name: str,
    *words: str,
    action: guard_service_pb2.GuardAction.ValueType = BLOCK,
    **more: Any,
) -> guard_service_pb2.Guard:
    return guard_service_pb2.Guard(
        name=name, action=action, words=guard_service_pb2.WordGuard(phrases=words), **more
    )


@pytest.mark.asyncio
async def test_a_guard_is_set_listed_changed_and_removed(served: Served) -> None:
    made = await served.put(phrases("own", "bad word", replacement="*", side=INPUT))
    assert made.etag
    assert made.update_time.seconds > 0
    assert (made.name, made.side, list(made.words.phrases)) == ("own", INPUT, ["bad word"])
    assert await served.names() == ["house-rules", "own"]
    changed = phrases("own", "other", etag=made.etag)
    again = await served.put(changed)
    assert again.etag != made.etag
    assert (await served.put(phrases("own", "other"))).etag == again.etag
    with refused("CONFLICT"):
        await served.put(changed)
    with calling_as(served.tenant, "guard:write"):
        for _ in range(2):
            await served.guards.DeleteGuard(guard_service_pb2.DeleteGuardRequest(name="own"))
    assert await served.names() == ["house-rules"]
    acts = [(one["action"], one["resource"]) for one in await served.audited()]
    assert acts == [("guard.set", "guard/own")] * 2 + [("guard.removed", "guard/own")]


@pytest.mark.asyncio
async def test_other_tenants_neither_see_it_nor_are_judged_by_it(served: Served) -> None:
    await served.put(phrases("own", "bad"))
    await eventually(lambda: blocked(served, "bad"))
    other = new_id()
    assert await served.names(other) == ["house-rules"]
    assert not (await served.check("bad", tenant=other)).blocked
    assert (await served.check("forbidden  FRUIT", tenant=other)).blocked


async def blocked(served: Served, text: str) -> bool:
    return (await served.check(text)).blocked


@pytest.mark.asyncio
async def test_the_operators_guards_cannot_be_touched(served: Served) -> None:
    with refused("FAILED_PRECONDITION"):
        await served.put(phrases("house-rules", "x"))
    with calling_as(served.tenant, "guard:write"), refused("FAILED_PRECONDITION"):
        await served.guards.DeleteGuard(guard_service_pb2.DeleteGuardRequest(name="house-rules"))
    with calling_as(served.tenant, "guard:read"):
        answer = await served.guards.ListGuards(guard_service_pb2.ListGuardsRequest())
    assert [guard.operator_owned for guard in answer.guards] == [True]


@pytest.mark.asyncio
async def test_a_change_is_in_force_in_time_on_every_replica(
    replica: Replica,
    settings_of: Callable[..., Settings],
) -> None:
    async with replica(settings_of()) as one, replica(settings_of()) as two:
        two.tenant = one.tenant
        await one.put(phrases("own", "bad"))
        for each in (one, two):
            await eventually(partial(blocked, each, "bad"))
        with calling_as(one.tenant, "guard:write"):
            await two.guards.DeleteGuard(guard_service_pb2.DeleteGuardRequest(name="own"))

        async def passes() -> bool:
            return not await blocked(one, "bad")

        await eventually(passes)


@pytest.mark.asyncio
async def test_generate_is_guarded_and_blocks_are_audited(
    served: Served, provider: Simulator
) -> None:
    await served.put(
        guard_service_pb2.Guard(
            name="mails", action=REDACT, pii=guard_service_pb2.PiiGuard(kinds=["email"])
        )
    )
    await eventually(lambda: redacted(served))
    with refused("GUARD_BLOCKED", "house-rules"):
        await served.generate("a forbidden fruit", "sim-n3")
    assert not provider.requests
    events = await served.generate("I am a@b.com", "sim-n3")
    assert b"a@b.com" not in orjson.dumps(provider.requests[-1].body)
    assert b"[email]" in orjson.dumps(provider.requests[-1].body)
    [finding] = events[-1].finished.findings
    assert (finding.guard, finding.category, finding.side, finding.action, finding.count) == (
        *("mails", "email", "input", "redact"),
        1,
    )

    async def is_audited() -> bool:
        return any(one["action"] == "guard.blocked" for one in await served.audited())

    await eventually(is_audited)
    [record] = [one for one in await served.audited() if one["action"] == "guard.blocked"]
    assert (record["resource"], record["outcome"]) == ("guard/house-rules", "denied")
    assert record["details"] == {"side": "input", "category": "phrase"}


async def redacted(served: Served) -> bool:
    return (await served.check("a@b.com")).text == "[email]"


@pytest.mark.asyncio
async def test_blocked_output_is_settled_and_charged(served: Served) -> None:
    await served.put(
        guard_service_pb2.Guard(
            name="own",
            side=OUTPUT,
            action=BLOCK,
            regex=guard_service_pb2.RegexGuard(patterns=["~[0-9a-f]{8}"], longest_match=9),
        )
    )

    async def is_there() -> bool:
        return (await served.check("~01234567", OUTPUT)).blocked

    await eventually(is_there)
    events = await served.generate("hello", "sim-n5000-tps2000")
    finished = events[-1].finished
    assert finished.finish_reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert "".join(event.delta.text for event in events) == ""
    assert 0 < finished.usage.completion_tokens < 5000

    async def rows() -> list[int]:
        async with unit_of_work(served.database, served.tenant) as connection:
            found = await connection.fetch(
                "SELECT completion_tokens FROM model_router.model_usage WHERE tenant_id = $1",
                served.tenant,
            )
        return [row["completion_tokens"] for row in found]

    async def is_recorded() -> bool:
        return bool(await rows())

    await eventually(is_recorded)
    assert await rows() == [finished.usage.completion_tokens]


WRONG: list[tuple[guard_service_pb2.Guard, list[str]]] = [
    (phrases("No Name", "x"), ["guard.name", "1 to 64"]),
    (phrases("a", *["x"] * 1001), ["guard.words.phrases", "1 to 1000"]),
    (phrases("a", "x" * 129), ["guard.words.phrases[0]", "1 to 128"]),
    (phrases("a", "\u200b"), ["phrases[0]"]),
    (phrases("a", "x", action=guard_service_pb2.GUARD_ACTION_UNSPECIFIED), ["guard.action"]),
    (phrases("a", "x", replacement='"'), ["guard.replacement"]),
    (phrases("a", "x", models=["a b"]), ["guard.models[0]"]),
    (guard_service_pb2.Guard(name="a", action=BLOCK), ["guard.kind"]),
    (guard_service_pb2.Guard(name="a", action=BLOCK, python="x"), ["python", "operator"]),
    (
        guard_service_pb2.Guard(
            name="a", action=BLOCK, pii=guard_service_pb2.PiiGuard(kinds=["shoe"])
        ),
        ["guard.pii.kinds[0]", "email"],
    ),
    (
        guard_service_pb2.Guard(
            name="a", action=BLOCK, regex=guard_service_pb2.RegexGuard(patterns=["(a"])
        ),
        ["patterns[0]", "RE2"],
    ),
    (
        guard_service_pb2.Guard(
            name="a", action=BLOCK, regex=guard_service_pb2.RegexGuard(patterns=["a*"])
        ),
        ["patterns[0]", "empty"],
    ),
    (
        guard_service_pb2.Guard(
            name="a",
            action=BLOCK,
            regex=guard_service_pb2.RegexGuard(patterns=["a"], longest_match=513),
        ),
        ["guard.regex.longest_match", "512"],
    ),
    (
        guard_service_pb2.Guard(
            name="a",
            action=BLOCK,
            http=guard_service_pb2.HttpGuard(url="https://x", timeout_milliseconds=9000),
        ),
        ["guard.http.timeout_milliseconds", "50 to 5000"],
    ),
]
"""Guards that cannot be used, and what their refusal says."""


@pytest.mark.asyncio
async def test_wrong_guards_are_refused_by_field(served: Served) -> None:
    for guard, words in WRONG:
        with refused("INVALID_ARGUMENT", *words):
            await served.put(guard)
    assert await served.names() == ["house-rules"]


@pytest.mark.asyncio
async def test_a_tenants_judge_needs_the_operators_leave(served: Served) -> None:
    judge = guard_service_pb2.HttpGuard(url="https://judge.example.com/v1")
    with refused("EGRESS_REFUSED"):
        await served.put(guard_service_pb2.Guard(name="j", action=BLOCK, http=judge))


@pytest.mark.asyncio
async def test_a_wrong_file_or_setting_is_refused_with_its_field(
    replica: Replica, settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(FILE)
    with pytest.raises(SettingsError, match=r"guards\[0\].*phrases\[0\]"):
        async with replica(settings_of(file=file)):
            pass


@pytest.mark.asyncio
async def test_lists_have_pages(served: Served) -> None:
    for name in ("b", "a", "zz"):
        await served.put(phrases(name, "x"))
    names: list[str] = []
    token = ""
    with calling_as(served.tenant, "guard:read"):
        while True:
            page = page_pb2.PageRequest(page_size=3, page_token=token)
            answer = await served.guards.ListGuards(guard_service_pb2.ListGuardsRequest(page=page))
            names += [guard.name for guard in answer.guards]
            token = answer.page.next_page_token
            if not token:
                break
    assert names == ["a", "b", "house-rules", "zz"]
