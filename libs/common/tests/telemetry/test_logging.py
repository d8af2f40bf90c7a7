"""Logs: one JSON object a line, with the ids of the call, without secrets (S-69, R-25)."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from meshwright_common import context
from meshwright_common.context import CallContext, Principal
from meshwright_common.identity import api_keys
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.telemetry.logging import configure, get_logger

TENANT = new_id()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    """Where the lines go; the process's own configuration comes back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("chat", sink=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(sink: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.getvalue().split("\n")[:-1]]


def test_line_has_name_level_time_and_service(sink: io.StringIO) -> None:
    get_logger("meshwright.test").info("something_happened", count=3)
    (line,) = lines(sink)
    assert "something_happened" == line["event"]
    assert ("info", "chat", 3) == (line["level"], line["service"], line["count"])
    assert line["timestamp"].endswith("Z")
    assert "meshwright.test" == line["logger"]


def test_line_of_a_call_carries_its_ids(sink: io.StringIO) -> None:
    caller = Principal(TENANT, "anna", "user", frozenset())
    with context.bind(CallContext(caller, None, "request-1", "correlation-1", TRACE)):
        get_logger("x").info("inside")
    get_logger("x").info("outside")
    inside, outside = lines(sink)
    assert "request-1" == inside["request_id"]
    assert "correlation-1" == inside["correlation_id"]
    assert TRACE.split("-")[1] == inside["trace_id"]
    assert TENANT == inside["tenant_id"]
    assert not {"request_id", "trace_id", "tenant_id"} & set(outside)


def test_lines_of_libraries_look_the_same(sink: io.StringIO) -> None:
    logging.getLogger("asyncpg").warning("lost %s of %s", 1, 2)
    (line,) = lines(sink)
    assert "lost 1 of 2" == line["event"]
    assert "chat" == line["service"]


def test_level_is_respected(sink: io.StringIO) -> None:
    get_logger("x").debug("unseen")
    configure("chat", level="debug", sink=sink)
    get_logger("x").debug("seen")
    assert ["seen"] == [line["event"] for line in lines(sink)]


def canaries() -> dict[str, str]:
    keys = ephemeral_keys(["chat"])
    caller = Principal(TENANT, "anna", "user", frozenset())
    token = TokenMinter("chat", keys.private_key("chat")).token_for(caller)
    return {
        "our api key": api_keys.generate().plain,
        "token": token,
        "bearer": "Bearer abcdefghijklmnop",
        "provider key": "sk-proj-abcdefghijklmnopqrstuv",
        "database url": "postgresql://meshwright_chat:hunter2hunter2@127.0.0.1:5432/meshwright",
        "redis url": "redis://:hunter2hunter2@127.0.0.1:6379/0",
        "private key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----",
    }


@pytest.mark.parametrize("name", sorted(canaries()))
def test_no_secret_reaches_a_line_in_any_place(sink: io.StringIO, name: str) -> None:
    secret = canaries()[name]
    logger = get_logger("x")
    logger.info("seen", value=secret, nested={"deep": [{"deeper": f"before {secret} after"}]})
    logger.info(f"in the event: {secret}")
    logging.getLogger("library").error("in the arguments: %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("in_the_traceback")
    told = sink.getvalue()
    for part in secret.split("hunter2hunter2") if "hunter2" in secret else [secret]:
        if "hunter2" in secret:
            assert "hunter2" not in told
        else:
            assert part not in told
            assert json.dumps(part)[1:-1] not in told


@pytest.mark.parametrize(
    "field", ["authorization", "password", "api_key", "client_secret", "token", "access_token"]
)
def test_field_with_a_secret_name_is_hidden_whatever_it_holds(
    sink: io.StringIO, field: str
) -> None:
    get_logger("x").info("seen", **{field: "hunter2", "inner": {field: "hunter2"}})
    assert "hunter2" not in sink.getvalue()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", '{"event":"forged"}', "\x1b[31m", "\u2028"])
def test_text_cannot_forge_a_line(sink: io.StringIO, text: str) -> None:
    get_logger("x").info("seen", value=text)
    (line,) = lines(sink)
    assert text == line["value"]


@pytest.mark.parametrize("value", [b"\xff", object(), "\ud800", 1 << 80, float("nan"), {1: 2}, {3}])
def test_odd_value_does_not_lose_the_line(sink: io.StringIO, value: object) -> None:
    get_logger("x").info("seen", value=value)
    assert "seen" == lines(sink)[0]["event"]


def test_endless_value_is_cut(sink: io.StringIO) -> None:
    loop: list[object] = []
    loop.append(loop)
    get_logger("x").info("seen", text="x" * 1_000_000, loop=loop)
    assert len(sink.getvalue()) < 10_000
