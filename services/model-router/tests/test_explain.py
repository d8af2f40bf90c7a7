"""Explaining a route, and how deployments do, through the stub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import deployment_pb2, routing_service_pb2
from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.testing.mesh import calling_as
from meshwright_model_router.settings import ModelsSettings

if TYPE_CHECKING:
    from tests.conftest import Router

pytestmark = pytest.mark.asyncio

FILE: Final[dict[str, Any]] = {
    "deployments": [
        {"name": "off", "model": "m", "disabled": True, "priority": 1},
        {"name": "small", "model": "m", "context_window": 1000, "priority": 2},
        {"name": "blind", "model": "m", "capabilities": ["tools"], "priority": 3},
        {"name": "fits", "model": "m", "capabilities": ["tools", "vision"], "priority": 4},
        {"name": "spare", "provider_model": "sim-n1"},
        *({"name": f"s{at}", "model": "s", "provider_model": "sim-n1"} for at in range(3)),
    ],
    "policies": [
        {"name": "p", "models": ["m"], "fallback_models": ["spare"]},
        {"name": "s", "models": ["s"], "strategy": "least_busy", "sticky_by_session": True},
    ],
}


@pytest.fixture
def models(provider: Simulator, tmp_path: Path) -> ModelsSettings:
    """Settings whose models stand in a file."""
    deployments = [{"base_url": provider.base_url} | one for one in FILE["deployments"]]
    path = tmp_path / "models.yaml"
    path.write_text(json.dumps(FILE | {"deployments": deployments}))
    return ModelsSettings(file=path)


async def explain(
    router: Router, model: str = "m", **fields: Any
) -> routing_service_pb2.ExplainRouteResponse:
    request = routing_service_pb2.ExplainRouteRequest(model=model, **fields)
    with calling_as(router.tenant, "route:read"):
        return await router.routing.ExplainRoute(request)


async def test_every_candidate_is_named_with_what_speaks_against_it(router: Router) -> None:
    explained = await explain(router, prompt_tokens=5000, capabilities=["vision"])
    assert explained.deployment == "fits"
    assert explained.policy == ""
    told = [(one.deployment, one.eligible, one.exclusion) for one in explained.candidates]
    assert told[0] == ("fits", True, "")
    assert set(told[1:4]) == {
        ("off", False, "disabled"),
        ("small", False, "context_window"),
        ("blind", False, "capability"),
    }
    assert told[4] == ("spare", True, "")
    assert explained.candidates[0].score == 4
    assert router.provider.counters.requests == 0


async def test_what_the_plan_excludes_is_told_and_not_hidden(router: Router) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(allowed_models=["spare"])
    explained = await explain(router)
    assert explained.deployment == "spare"
    exclusions = {one.deployment: one.exclusion for one in explained.candidates}
    assert exclusions["fits"] == "not_allowed"


async def test_session_stays_where_the_explanation_says(router: Router) -> None:
    async def asked(session: str) -> str:
        request = router.question("hello", "s")
        request.attribution.session_id = session
        return (await router.generate(request))[0].started.deployment

    sessions = [f"s{number}" for number in range(12)]
    firsts = [await asked(one) for one in sessions]
    assert len(set(firsts)) > 1
    assert [await asked(one) for one in sessions] == firsts
    explained = [(await explain(router, "s", session_id=one)).deployment for one in sessions]
    assert explained == firsts


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"session_id": "a b"}, "session_id"),
        ({"capabilities": ["sight"]}, "capabilities"),
        ({"capabilities": ["embed", "generate"]}, "capabilities"),
    ],
)
async def test_bad_questions_are_refused_by_name(
    router: Router, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(ServiceError) as raised:
        await explain(router, **fields)
    assert [one.field for one in raised.value.field_violations] == [field]


async def test_health_is_listed_in_pages_also_of_what_was_never_asked(router: Router) -> None:
    await router.generate(router.question("hello", "spare"))
    names: list[str] = []
    token = ""
    with calling_as(router.tenant, "route:read"):
        while True:
            request = routing_service_pb2.ListHealthRequest()
            request.page.page_size, request.page.page_token = 3, token
            answer = await router.routing.ListHealth(request)
            names += [one.deployment for one in answer.deployments]
            states = {one.breaker_state for one in answer.deployments}
            assert states == {deployment_pb2.BREAKER_STATE_CLOSED}
            for one in answer.deployments:
                was_asked = one.deployment == "spare"
                assert (one.recent_requests, one.HasField("first_token_p50")) == (
                    int(was_asked),
                    was_asked,
                )
            token = answer.page.next_page_token
            if not token:
                break
    assert {"off", "small", "blind", "fits", "spare", "offline"} <= set(names)
    assert names == sorted(names)
