"""Lines of one event: written straight, and nevertheless as the pipeline writes them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from meshwright_common.telemetry import logging as pipeline
from meshwright_common.telemetry.event_lines import EventLines

NAME = "tests.lines"
FIELDS: dict[str, str | int | float | None] = {
    "path": "/v1/x?key=sk-abcdefghijklmnopqrstuvwx",
    "status": 200,
    "seconds": 0.5,
    "tenant_id": None,
}


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    pipeline.configure("tester", sink=text)
    yield text
    pipeline.configure("tester")
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(sink: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in sink.getvalue().splitlines()]


def test_line_is_what_the_pipeline_would_have_written(sink: io.StringIO) -> None:
    EventLines(NAME, "asked", foreign=frozenset({"path"})).write(dict(FIELDS))
    pipeline.get_logger(NAME).info("asked", **FIELDS)

    straight, usual = _lines(sink)
    assert straight.keys() == usual.keys()
    assert straight["path"] == "/v1/x?key=***"
    moments = [line.pop("timestamp") for line in (straight, usual)]
    assert straight == usual
    assert [len(moment) for moment in moments] == [27, 27]


def test_level_and_form_of_the_logs_are_kept(sink: io.StringIO) -> None:
    lines = EventLines(NAME, "asked", foreign=frozenset())
    logging.getLogger().setLevel("WARNING")
    lines.write({"status": 1})
    assert sink.getvalue() == ""

    pipeline.configure("tester", log_format="console", sink=sink)
    lines.write({"status": 2})
    assert "asked" in sink.getvalue()
    assert not sink.getvalue().startswith("{")


def test_handlers_of_others_see_every_line(
    sink: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        EventLines(NAME, "asked", foreign=frozenset()).write({"status": 1})
    assert "asked" in str(caplog.records[-1].msg)
