"""Calls over several deployments, through the stub, in front of the simulated provider."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import (
    deployment_pb2,
    generation_pb2,
    model_service_pb2,
    routing_service_pb2,
)
from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.testing.mesh import calling_as, collect
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.deployment_settings import TimeoutSettings
from meshwright_model_router.settings import ModelsSettings

if TYPE_CHECKING:
    from tests.conftest import Router

pytestmark = pytest.mark.asyncio

GOOD: Final = "sim-n6"
ANSWER: Final = 60
"""Characters of its answer."""


def routed(
    *provider_models: str, others: Mapping[str, str] | None = None, **policy: object
) -> dict[str, Any]:
    """Return a file in which each provider model has a deployment of `m`, tried in order.

    `others`: provider models of further models, by name; `policy` rules `m`.
    """
    deployments = [
        {"name": f"d{at}", "model": "m", "provider_model": one, "priority": at + 1}
        for at, one in enumerate(provider_models)
    ]
    deployments += [{"name": name, "provider_model": one} for name, one in (others or {}).items()]
    return {"deployments": deployments, "policies": [{"name": "p", "models": ["m"], **policy}]}


@pytest.fixture
def file() -> dict[str, Any]:
    """The file of models; tests that need another one parametrise it."""
    return routed(GOOD, GOOD)


@pytest.fixture
def models(file: dict[str, Any], provider: Simulator, tmp_path: Path) -> ModelsSettings:
    """Settings whose models stand in a file, and how long a provider may be silent."""
    place = f"127.0.0.1:{provider.port}"
    deployments = [
        one | {"base_url": one.get("base_url", provider.base_url).format(provider=place)}
        for one in file["deployments"]
    ]
    content = {name: value for name, value in file.items() if name not in ("patience", "idle")}
    path = tmp_path / "models.yaml"
    path.write_text(json.dumps(content | {"deployments": deployments}))
    first, idle = (file.get(name, 0.4) for name in ("patience", "idle"))
    timeouts = TimeoutSettings(connect_seconds=0.5, first_byte_seconds=first, idle_seconds=idle)
    return ModelsSettings(file=path, timeouts=timeouts)


async def ask(
    router: Router, model: str = "m", *, restart: bool = False, session: str = ""
) -> list[generation_pb2.GenerateEvent]:
    """Return all events of an answer."""
    request = router.question("hello", model)
    request.accepts_restart = restart
    request.attribution.session_id = session
    return await router.generate(request)


def text_of(events: list[generation_pb2.GenerateEvent]) -> str:
    """Return what is left of the text after every restart."""
    text = ""
    for event in events:
        text = "" if event.HasField("restarted") else text + event.delta.text
    return text


async def rows_of(router: Router, count: int) -> list[tuple[object, ...]]:
    """Return number, deployment, outcome and repetition of the requests, when all are written."""

    async def written() -> bool:
        return len(await router.rows()) == count

    await eventually(written)
    rows = sorted(await router.rows(), key=lambda row: int(str(row["number"])))
    return [
        (row["number"], row["deployment"], row["outcome"], row["repeated_by_platform"])
        for row in rows
    ]


FAULTS: Final = [
    *("sim-err500", "sim-err503", "sim-err401", "sim-err429", "sim-err429-retryafter3600"),
    *("sim-refuse", "sim-hang", "sim-truncate0", "sim-stall0", "sim-n3-sse:badjson"),
]


@pytest.mark.parametrize("file", [routed(fault, GOOD) for fault in FAULTS], ids=FAULTS)
async def test_failure_before_the_first_piece_goes_to_the_other_deployment(
    router: Router,
) -> None:
    """F-52, F-53, F-54: one request to each, and the caller sees nothing of it."""
    events = await ask(router)
    assert [event.WhichOneof("event") for event in events].count("started") == 1
    assert events[0].started.deployment == "d1"
    assert len(text_of(events)) == ANSWER
    assert await rows_of(router, 2) == [
        (1, "d0", "failed", True),
        (2, "d1", "completed", False),
    ]


UNREACHABLE: Final = {
    "refused": "http://127.0.0.1:9/v1",
    "dns": "http://nowhere.invalid/v1",
    "tls": "https://{provider}/v1",
}


def _elsewhere(base_url: str) -> dict[str, Any]:
    file = routed(GOOD, GOOD)
    file["deployments"][0]["base_url"] = base_url
    return file


@pytest.mark.parametrize(
    "file", [_elsewhere(url) for url in UNREACHABLE.values()], ids=list(UNREACHABLE)
)
async def test_connection_that_fails_goes_to_the_other_deployment(router: Router) -> None:
    """F-53: refused, no such host, and a server that does not speak TLS."""
    events = await ask(router)
    assert events[0].started.deployment == "d1"
    assert router.provider.counters.chat == 1


@pytest.mark.parametrize("file", [routed("sim-err400", GOOD)])
async def test_request_that_is_refused_goes_nowhere_else(router: Router) -> None:
    with pytest.raises(ServiceError) as raised:
        await ask(router)
    assert raised.value.reason == "PROVIDER_REJECTED"
    assert router.provider.counters.chat == 1


@pytest.mark.parametrize(
    "file",
    [routed("sim-err503", others={"f1": "sim-err500", "f2": GOOD}, fallback_models=["f1", "f2"])],
)
async def test_fallback_models_are_asked_in_their_order(router: Router) -> None:
    events = await ask(router)
    assert events[0].started.deployment == "f2"
    assert [row[1] for row in await rows_of(router, 3)] == ["d0", "f1", "f2"]


@pytest.mark.parametrize("file", [routed("sim-hang", others={"f1": GOOD}, fallback_models=["f1"])])
async def test_fallback_beyond_the_plan_is_not_asked(router: Router) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(allowed_models=["m", "sim-hang"])
    with pytest.raises(ServiceError) as raised:
        await ask(router)
    assert raised.value.reason == "PROVIDER_TIMEOUT"
    assert await rows_of(router, 1) == [(1, "d0", "failed", False)]


@pytest.mark.parametrize("file", [routed("sim-err503", "sim-err503", GOOD, max_attempts=2)])
async def test_no_more_requests_than_the_policy_says(router: Router) -> None:
    with pytest.raises(ServiceError) as raised:
        await ask(router)
    assert raised.value.reason == "PROVIDER_UNAVAILABLE"
    assert await rows_of(router, 2) == [(1, "d0", "failed", True), (2, "d1", "failed", False)]


PATIENT: Final = {"patience": 10.0, "idle": 1.5}  # a busy machine stands still for longer
BREAKS: Final = {
    "sim-n20-tps200-truncate5": "PROVIDER_TRUNCATED",
    "sim-n20-tps200-reset5": "PROVIDER_TRUNCATED",
    "sim-n20-tps200-fault5": "PROVIDER_UNAVAILABLE",
    "sim-n20-tps200-stall5": "PROVIDER_TIMEOUT",
}


@pytest.mark.parametrize(
    ("file", "reason"),
    [(routed(fault, GOOD) | PATIENT, reason) for fault, reason in BREAKS.items()],
    ids=list(BREAKS),
)
async def test_stream_that_breaks_begins_anew_for_callers_that_accept_it(
    router: Router, reason: str
) -> None:
    """CP-13, R-13: what came before the restart is void, and what follows is the whole answer."""
    events = await ask(router, restart=True)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds.count("restarted") == kinds.count("started") == 1
    assert "delta" in kinds[: kinds.index("restarted")]
    (restarted,) = (event.restarted for event in events if event.HasField("restarted"))
    assert (restarted.reason, restarted.deployment) == (reason, "d1")
    assert len(text_of(events)) == ANSWER
    assert await rows_of(router, 2) == [(1, "d0", "failed", True), (2, "d1", "completed", False)]
    broken, whole = sorted(await router.rows(), key=lambda row: int(str(row["number"])))
    assert int(str(broken["completion_tokens"])) > 0
    assert whole["completion_tokens"] == events[-1].finished.usage.completion_tokens


@pytest.mark.parametrize(
    ("file", "reason"),
    [(routed(fault, GOOD) | PATIENT, reason) for fault, reason in BREAKS.items()],
    ids=list(BREAKS),
)
async def test_stream_that_breaks_ends_with_its_error_for_all_others(
    router: Router, reason: str
) -> None:
    """F-54, F-55."""
    responses: list[model_service_pb2.GenerateResponse] = []
    with calling_as(router.tenant, "model:invoke"), pytest.raises(ServiceError) as raised:
        await collect(router.stub.Generate(router.question("hello", "m")), responses)
    assert raised.value.reason == reason
    assert {one.event.WhichOneof("event") for one in responses} == {"started", "delta"}
    assert await rows_of(router, 1) == [(1, "d0", "failed", False)]


OUTRUN: Final = routed("sim-ttft9000", GOOD, hedge_after_seconds=0.1) | {"patience": 20}
SILENT: Final = routed("sim-ttft9000", "sim-ttft9000", hedge_after_seconds=0.1) | {"patience": 20}


@pytest.mark.parametrize("file", [OUTRUN])
async def test_silent_deployment_is_outrun_and_left_at_once(router: Router) -> None:
    events = await ask(router)
    assert events[0].started.deployment == "d1"
    assert len(text_of(events)) == ANSWER
    await eventually(lambda: router.provider.counters.open_streams == 0, timeout_seconds=6)
    assert await rows_of(router, 2) == [
        (1, "d0", "cancelled", True),
        (2, "d1", "completed", False),
    ]


@pytest.mark.parametrize(
    "file", [routed("sim-ttft250-n6", "sim-ttft9000", hedge_after_seconds=0.1)]
)
async def test_first_deployment_wins_when_it_speaks_first(router: Router) -> None:
    events = await ask(router)
    assert events[0].started.deployment == "d0"
    assert await rows_of(router, 2) == [
        (1, "d0", "completed", False),
        (2, "d1", "cancelled", True),
    ]


@pytest.mark.parametrize("file", [routed(GOOD, GOOD, hedge_after_seconds=10)])
async def test_deployment_that_speaks_in_time_is_asked_alone(router: Router) -> None:
    await ask(router)
    assert router.provider.counters.chat == 1


@pytest.mark.parametrize("file", [SILENT])
async def test_caller_that_leaves_ends_both_of_a_race(router: Router) -> None:
    """R-14."""
    asking = asyncio.create_task(ask(router))
    await eventually(lambda: router.provider.counters.open_streams == 2)
    asking.cancel()
    await eventually(lambda: router.provider.counters.open_streams == 0, timeout_seconds=6)
    assert await rows_of(router, 2) == [
        (1, "d0", "cancelled", False),
        (2, "d1", "cancelled", True),
    ]


@pytest.mark.parametrize("file", [routed("sim-err500-id:breaker", max_attempts=1)])
async def test_breaker_opens_and_is_told_with_the_time_until_it_tries(router: Router) -> None:
    for _ in range(3):
        with pytest.raises(ServiceError) as raised:
            await ask(router)
        assert raised.value.reason == "PROVIDER_UNAVAILABLE"
    with pytest.raises(ServiceError) as raised:
        await ask(router)
    refused = raised.value
    assert refused.reason == "NO_DEPLOYMENT"
    assert "HTTP 500" in refused.message
    assert refused.retry_after_seconds is not None
    assert 50 < refused.retry_after_seconds <= 60
    assert router.provider.counters.chat == 3
    with calling_as(router.tenant, "route:read"):
        listed = await router.routing.ListHealth(routing_service_pb2.ListHealthRequest(model="m"))
        explained = await router.routing.ExplainRoute(
            routing_service_pb2.ExplainRouteRequest(model="m")
        )
    (health,) = listed.deployments
    assert health.breaker_state == deployment_pb2.BREAKER_STATE_OPEN
    assert (health.recent_requests, health.error_rate) == (3, 1.0)
    assert health.last_failure_reason == "PROVIDER_UNAVAILABLE"
    assert health.HasField("retry_time")
    assert explained.deployment == ""
    assert [(one.eligible, one.exclusion) for one in explained.candidates] == [
        (False, "cooling_down")
    ]


@pytest.mark.parametrize("file", [routed("sim-err401")])
async def test_refused_credential_is_told_as_such_also_when_nobody_is_asked(
    router: Router,
) -> None:
    for _ in range(5):
        with pytest.raises(ServiceError) as raised:
            await ask(router)
        assert raised.value.reason == "PROVIDER_CREDENTIALS"
        assert "d0" in raised.value.message
    assert router.provider.counters.chat == 3


@pytest.mark.parametrize(
    "file",
    [routed("sim-err500-fails3", max_attempts=1, cool_down={"seconds": 1})],
)
async def test_rested_deployment_is_tried_by_the_next_call(router: Router) -> None:
    for _ in range(3):
        with pytest.raises(ServiceError):
            await ask(router)

    async def answers() -> bool:
        with contextlib.suppress(ServiceError):
            return bool(await ask(router))
        return False

    await eventually(answers)
    assert router.provider.counters.chat == 4


@pytest.mark.parametrize("file", [routed("sim-err429-retryafter3600")])
async def test_provider_that_asked_for_a_pause_is_not_asked_and_the_limit_is_told(
    router: Router,
) -> None:
    for _ in range(3):
        with pytest.raises(ServiceError) as raised:
            await ask(router)
        assert raised.value.reason == "PROVIDER_RATE_LIMIT"
        assert raised.value.retry_after_seconds is not None
        assert 3590 < raised.value.retry_after_seconds <= 3600
    assert router.provider.counters.chat == 1


@pytest.mark.parametrize(
    "file",
    [
        {
            "deployments": [
                {"name": "small", "model": "m", "provider_model": GOOD, "context_window": 1000},
                {"name": "large", "model": "m", "provider_model": GOOD, "context_window": 9000},
            ],
            "policies": [{"name": "p", "strategy": "lowest_cost"}],
        }
    ],
)
async def test_long_conversation_goes_where_it_fits(router: Router) -> None:
    events = await router.generate(router.question("word " * 2000, "m"))
    assert events[0].started.deployment == "large"
    with pytest.raises(ServiceError) as raised:
        await router.generate(router.question("word " * 9000, "m"))
    assert raised.value.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert "9000" in raised.value.message


@pytest.mark.parametrize(
    "file",
    [
        {
            "deployments": [
                {
                    "name": f"v{at}",
                    "model": "v",
                    "provider_model": one,
                    "priority": at + 1,
                    "embedding_dimensions": 256,
                }
                for at, one in enumerate(("sim-err503", "sim-dim256"))
            ]
        }
    ],
)
async def test_vectors_come_from_the_other_deployment_when_one_fails(router: Router) -> None:
    with calling_as(router.tenant, "model:invoke"):
        answer = await router.stub.Embed(
            model_service_pb2.EmbedRequest(model="v", texts=["a", "b"])
        )
    assert len(answer.embeddings) == 2
    assert await rows_of(router, 2) == [(1, "v0", "failed", True), (2, "v1", "completed", False)]
