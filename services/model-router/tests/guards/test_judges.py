"""Judges of texts: a service over HTTP, and the operator's own code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import pytest_asyncio

from meshwright.model_router.v1 import guard_service_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.settings import Settings

if TYPE_CHECKING:
    from tests.guards.conftest import Replica


BLOCK, REDACT = guard_service_pb2.GUARD_ACTION_BLOCK, guard_service_pb2.GUARD_ACTION_REDACT
INPUT, OUTPUT = guard_service_pb2.GUARD_SIDE_INPUT, guard_service_pb2.GUARD_SIDE_OUTPUT


@contextmanager
def refused(reason: str, *words: str) -> Iterator[None]:
    """Expect an error of this reason, whose text has these words."""
    with pytest.raises(ServiceError) as caught:
        yield
    assert caught.value.reason == reason
    for word in words:
        assert word in caught.value.message


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
    replica: Replica, settings_of: Callable[..., Settings], judge: JudgeServer
) -> None:
    guard = {"name": "manners", "action": "block", "side": "input", "http": {"url": judge.url}}
    async with replica(settings_of(guards=(guard,))) as served:
        assert not (await served.check("kind words")).blocked
        checked = await served.check("nasty words")
        assert checked.blocked
        assert [one.category for one in checked.findings] == ["manners"]
        assert judge.asked[-1] == {"side": "input", "model": "offline", "text": "nasty words"}


@pytest.mark.asyncio
async def test_a_tenants_judge_is_asked_while_the_operator_allows_its_host(
    replica: Replica, settings_of: Callable[..., Settings], judge: JudgeServer, tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    host = judge.url.removeprefix("http://").removesuffix("/judge")
    file.write_text(f'egress: {{private_hosts: ["{host}"]}}')
    guard = guard_service_pb2.Guard(
        name="manners",
        action=guard_service_pb2.GUARD_ACTION_REDACT,
        replacement="-",
        http=guard_service_pb2.HttpGuard(url=judge.url),
    )
    async with replica(settings_of(file=file)) as served:
        await served.put(guard)

        async def is_redacted() -> bool:
            return (await served.check("nasty words")).text == "-"

        await eventually(is_redacted)
        file.write_text("egress: {private_hosts: []}")

        async def is_refused() -> bool:
            try:
                await served.check("nasty words")
            except ServiceError as error:
                return error.reason == "GUARD_UNAVAILABLE"
            return False

        await eventually(is_refused)
        with refused("EGRESS_REFUSED"):
            await served.put(guard)


@pytest.mark.asyncio
@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_silent_judge_passes_or_fails_as_configured(
    replica: Replica, settings_of: Callable[..., Settings], judge: JudgeServer, fail_open: bool
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
    replica: Replica,
    settings_of: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
