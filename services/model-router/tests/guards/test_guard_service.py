"""GuardService and Generate through the stubs, on a real database, in front of the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import generation_pb2, guard_service_pb2, model_service_pb2
from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceStub
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings, SettingsError
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.mesh import calling_as, collect, serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.app import build
from meshwright_model_router.settings import ModelsSettings, Settings

if TYPE_CHECKING:
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

BLOCK, REDACT = guard_service_pb2.GUARD_ACTION_BLOCK, guard_service_pb2.GUARD_ACTION_REDACT
INPUT, OUTPUT = guard_service_pb2.GUARD_SIDE_INPUT, guard_service_pb2.GUARD_SIDE_OUTPUT
FILE = """
guards:
  - name: house-rules
    side: input
    action: block
    words: {phrases: [forbidden fruit]}
"""


@contextmanager
def refused(reason: str, *words: str) -> Iterator[None]:
    """Expect an error of this reason, whose text has these words."""
    with pytest.raises(ServiceError) as caught:
        yield
    assert caught.value.reason == reason
    for word in words:
        assert word in caught.value.message


@dataclass
class Served:
    """One replica, with its background work."""

    guards: GuardServiceAsyncStub
    models: ModelServiceAsyncStub
    database: Database
    tenant: str = field(default_factory=new_id)

    async def put(
        self, guard: guard_service_pb2.Guard, tenant: str = ""
    ) -> guard_service_pb2.Guard:
        with calling_as(tenant or self.tenant, "guard:write"):
            answer = await self.guards.SetGuard(guard_service_pb2.SetGuardRequest(guard=guard))
        return answer.guard

    async def names(self, tenant: str = "") -> list[str]:
        with calling_as(tenant or self.tenant, "guard:read"):
            answer = await self.guards.ListGuards(guard_service_pb2.ListGuardsRequest())
        return [guard.name for guard in answer.guards]

    async def check(
        self, text: str, side: guard_service_pb2.GuardSide.ValueType = INPUT, tenant: str = ""
    ) -> guard_service_pb2.CheckTextResponse:
        with calling_as(tenant or self.tenant, "guard:read"):
            return await self.guards.CheckText(
                guard_service_pb2.CheckTextRequest(text=text, side=side)
            )

    async def generate(self, text: str, model: str) -> list[generation_pb2.GenerateEvent]:
        part = message_pb2.ContentPart(text=text)
        request = model_service_pb2.GenerateRequest(
            model=model, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])]
        )
        responses: list[model_service_pb2.GenerateResponse] = []
        with calling_as(self.tenant, "model:invoke"):
            await collect(self.models.Generate(request), responses)
        return [response.event for response in responses]

    async def audited(self) -> list[dict[str, object]]:
        async with unit_of_work(self.database, self.tenant) as connection:
            found = await connection.fetch(
                "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = 'audit.log'",
                self.tenant,
            )
        return [orjson.loads(row["body"])["data"] for row in found]


def phrases(
    name: str,
    *words: str,
    action: guard_service_pb2.GuardAction.ValueType = BLOCK,
    **more: Any,
) -> guard_service_pb2.Guard:
    return guard_service_pb2.Guard(
        name=name, action=action, words=guard_service_pb2.WordGuard(phrases=words), **more
    )


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[Served]:
    """Run one replica: the service with its background work."""
    directory = QuotaDirectory()
    async with (
        serving(directory.register) as peers,
        build(settings, peers.channels("model-router")) as app,
        serving(app.register) as served,
        open_database(settings.database, "model-router") as database,
    ):
        channel = served.channels().open("model-router")
        running = [
            asyncio.ensure_future(task.run())
            for task in app.tasks
            if task.name in {"tenants-changes", "guard-audit", "models-file"}
        ]
        try:
            yield Served(GuardServiceStub(channel), ModelServiceStub(channel), database)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
def settings_of(
    database_url: DatabaseSettings, redis_settings: RedisSettings, models: ModelsSettings
) -> Callable[..., Settings]:
    """Return settings, `changes` made to those of the models."""

    def make(**changes: object) -> Settings:
        content = {name: getattr(models, name) for name in ModelsSettings.model_fields}
        return Settings(
            database=database_url,
            redis=redis_settings,
            encryption=encryption_settings(),
            models=ModelsSettings(**{**content, **changes}),
        )

    return make


@pytest_asyncio.fixture
async def served(settings_of: Callable[..., Settings], tmp_path: Path) -> AsyncIterator[Served]:
    file = tmp_path / "models.yaml"
    file.write_text(FILE)
    async with replica(settings_of(file=file)) as running:
        yield running


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
    settings_of: Callable[..., Settings],
) -> None:
    async with replica(settings_of()) as one, replica(settings_of()) as two:
        two.tenant = one.tenant
        await one.put(phrases("own", "bad"))
        for each in (one, two):
            await eventually(partial(blocked, each, "bad"), timeout_seconds=2)
        with calling_as(one.tenant, "guard:write"):
            await two.guards.DeleteGuard(guard_service_pb2.DeleteGuardRequest(name="own"))

        async def passes() -> bool:
            return not await blocked(one, "bad")

        await eventually(passes, timeout_seconds=2)


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


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("guard", "words"),
    [
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
    ],
)
async def test_wrong_guards_are_refused_by_field(
    served: Served, guard: guard_service_pb2.Guard, words: list[str]
) -> None:
    with refused("INVALID_ARGUMENT", *words):
        await served.put(guard)


@pytest.mark.asyncio
async def test_a_tenants_judge_needs_the_operators_leave(served: Served) -> None:
    judge = guard_service_pb2.HttpGuard(url="https://judge.example.com/v1")
    with refused("EGRESS_REFUSED"):
        await served.put(guard_service_pb2.Guard(name="j", action=BLOCK, http=judge))


@pytest.mark.asyncio
async def test_a_wrong_file_or_setting_is_refused_with_its_field(
    settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(FILE.replace("phrases: [forbidden fruit]", "phrases: ['']"))
    with pytest.raises(SettingsError, match=r"guards\[0\].*phrases\[0\]"):
        async with replica(settings_of(file=file)):
            pass


@dataclass
class JudgeServer:
    """A judge over HTTP that blocks texts with the word "nasty"; it answers after `gate`."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        question = orjson.loads(await reader.readexactly(length))
        self.asked.append(question)
        await self.gate.wait()
        action = "block" if "nasty" in question["text"] else "allow"
        body = orjson.dumps({"action": action, "category": "manners"})
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        writer.close()


@pytest_asyncio.fixture
async def judge() -> AsyncIterator[JudgeServer]:
    made = JudgeServer()
    made.gate.set()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/judge"
    async with server:
        yield made


@pytest.mark.asyncio
async def test_a_judge_over_http_is_asked_and_believed(
    settings_of: Callable[..., Settings], judge: JudgeServer
) -> None:
    guard = {"name": "manners", "action": "block", "side": "input", "http": {"url": judge.url}}
    async with replica(settings_of(guards=(guard,))) as served:
        assert not (await served.check("kind words")).blocked
        checked = await served.check("nasty words")
        assert checked.blocked
        assert [one.category for one in checked.findings] == ["manners"]
        assert judge.asked[-1] == {"side": "input", "model": "offline", "text": "nasty words"}


@pytest.mark.asyncio
@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_silent_judge_passes_or_fails_as_configured(
    settings_of: Callable[..., Settings], judge: JudgeServer, fail_open: bool
) -> None:
    judge.gate.clear()
    http = {"url": judge.url, "timeout_milliseconds": 50, "fail_open": fail_open}
    guard = {"name": "manners", "action": "block", "http": http}
    async with replica(settings_of(guards=(guard,))) as served:
        if fail_open:
            assert (await served.check("nasty")).text == "nasty"
        else:
            with refused("GUARD_UNAVAILABLE", "manners"):
                await served.check("nasty")
        judge.gate.set()


CODE = """
def mild(text, side, model):
    if "nasty" in text:
        return {"action": "redact", "category": side, "text": text.replace("nasty", model)}
    if "wrong" in text:
        raise KeyError(text)


async def strict(text, side, model):
    return "rude" if "rude" in text else None
"""


@pytest.mark.asyncio
async def test_the_operators_code_judges(
    settings_of: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "operators_judges.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    python = {name: {"function": f"operators_judges:{name}"} for name in ("mild", "strict")}
    guards = tuple({"name": name, "action": "block", "python": name} for name in python)
    async with replica(settings_of(guards=guards, python_guards=python)) as served:
        assert (await served.check("a nasty word")).text == "a offline word"
        assert (await served.check("a rude word")).blocked
        with refused("GUARD_UNAVAILABLE", "mild"):
            await served.check("wrong")


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
