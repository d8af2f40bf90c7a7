"""What operators learn of streams: how they end, how they went on, how soon they begin."""

from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from meshwright_common.errors import FailedPrecondition, Internal, Unavailable
from meshwright_common.telemetry import metric_names
from services.gateway.tests.events import parse
from services.gateway.tests.peers import Script, turn_events
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

ENDS = ("whole", "left", "broken", "refused")


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def ends() -> dict[str, float]:
    return {end: counted(f"{metric_names.TURN_STREAMS}_total", end=end) for end in ENDS}


def resumes(side: str) -> float:
    return counted(f"{metric_names.TURN_STREAM_RESUMES}_total", side=side)


def since(before: dict[str, float]) -> dict[str, float]:
    return {end: count - before[end] for end, count in ends().items() if count != before[end]}


async def test_a_stream_told_to_its_end_is_whole_also_when_it_is_resumed(
    platform: Platform,
) -> None:
    before, resumed = ends(), resumes("client")
    first = counted(f"{metric_names.TURN_FIRST_TOKEN_SECONDS}_count")

    told = parse(await (await platform.post("/api/v1/chat", {"message": "a b"})).text())
    turn_id = told[0].data["turn_id"]
    rest = await platform.get(f"/api/v1/turns/{turn_id}/events", last_event_id=told[1].id)
    await rest.text()

    assert since(before) == {"whole": 2}
    assert resumes("client") - resumed == 1
    assert counted(f"{metric_names.TURN_FIRST_TOKEN_SECONDS}_count") - first == 1


async def test_a_call_that_ends_early_is_no_broken_stream(platform: Platform) -> None:
    before, resumed = ends(), resumes("server")
    platform.peers.chat.script = breaking(Unavailable("the process is gone"))

    await (await platform.post("/api/v1/chat", {"message": "a"})).text()

    assert since(before) == {"whole": 1}
    assert resumes("server") - resumed == 1


async def test_a_stream_that_an_error_ends_is_broken(platform: Platform) -> None:
    before = ends()
    platform.peers.chat.script = breaking(Internal("defect"))

    await (await platform.post("/api/v1/chat", {"message": "a"})).text()

    assert since(before) == {"broken": 1}


async def test_a_question_that_is_refused_breaks_no_stream(platform: Platform) -> None:
    before = ends()
    platform.peers.chat.error = FailedPrecondition("a turn is running")

    await platform.post("/api/v1/chat", {"message": "a"})

    assert since(before) == {"refused": 1}


def breaking(error: Internal | Unavailable) -> Callable[..., Script]:
    """Return a script that breaks after its second event."""
    return lambda turn_id, _: Script(turn_events(turn_id, "a"), breaks_after={2: error})
