"""From a model's name to its deployments and its policy."""

from dataclasses import replace

import pytest

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.routing import CoolDown, RoutingPolicy
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.routing_store import TenantRouting
from meshwright_model_router.domain.routing_table import Operated, RoutingTable, RoutingTables
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.providers.offline.chat import OfflineChat

TENANT = "0190b6a0-0000-7000-8000-000000000001"

OFFLINE = Deployment("offline", "offline", "offline")
EXACT = Deployment("fast", "sim-fast", "openai", "fast")
PATTERN = Deployment("sim", "sim-*", "openai", "*")
NARROW = Deployment("narrow", "sim-b-*", "openai", "b")
SECOND = Deployment("second", "sim-fast", "openai", "fast-2", disabled=True)
OWN = Deployment("own", "sim-fast", "openai", "mine", tenant_id=TENANT)


def served(*deployments: Deployment) -> tuple[Served, ...]:
    return tuple(serve(DeploymentRecord(one)) for one in deployments)


def serve(record: DeploymentRecord) -> Served:
    return Served(record, Providers(chat=OfflineChat()))


def tables_of(*deployments: Deployment) -> RoutingTables:
    tables = RoutingTables(operated(*deployments), serve)
    tables.put_tenant(TENANT, TenantRouting((DeploymentRecord(OWN),)))
    return tables


def operated(*deployments: Deployment, policies: tuple[RoutingPolicy, ...] = ()) -> Operated:
    return Operated(served(*deployments), policies, {Operation.GENERATE: "offline"})


@pytest.mark.parametrize(
    ("name", "deployment", "model"),
    [
        ("", "offline", "offline"),
        ("offline", "offline", "offline"),
        ("sim-fast", "fast", "fast"),
        ("sim-n16-tps50", "sim", "sim-n16-tps50"),
        ("sim-b-1", "narrow", "b"),
    ],
)
def test_most_exact_name_wins(name: str, deployment: str, model: str) -> None:
    table = RoutingTable(operated(OFFLINE, PATTERN, EXACT, NARROW))
    (route,) = table.resolve(name, Operation.GENERATE).routes
    assert (route.deployment.name, route.model) == (deployment, model)


def test_several_deployments_serve_one_model_also_those_that_take_no_calls() -> None:
    resolved = RoutingTable(operated(EXACT, SECOND)).resolve("sim-fast", Operation.GENERATE)
    assert [route.deployment.name for route in resolved.routes] == ["fast", "second"]
    assert [route.model for route in resolved.routes] == ["fast", "fast-2"]


@pytest.mark.parametrize(
    "name", ["gpt", "sim", "SIM-FAST", "sim-\x00", "sim-" + "x" * 600, "sim-a b"]
)
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(ServiceError) as raised:
        RoutingTable(operated(OFFLINE, PATTERN)).resolve(name, Operation.GENERATE)
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert raised.value.metadata["models"] == "offline, sim-*"


def test_model_that_generates_does_not_embed() -> None:
    with pytest.raises(ServiceError) as raised:
        RoutingTable(operated(OFFLINE)).resolve("offline", Operation.EMBED)
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "embed" in raised.value.message


def test_without_a_purpose_among_its_capabilities_vectors_say_what_a_deployment_is_for() -> None:
    assert OFFLINE.operations == {Operation.GENERATE}
    assert Deployment("v", "v", "openai", embedding_dimensions=8).operations == {Operation.EMBED}
    both = Deployment("b", "b", "openai", capabilities=("moderate", "generate", "tools"))
    assert both.operations == {Operation.GENERATE, Operation.MODERATE}
    assert both.abilities == ("tools",)


def test_a_tenants_deployment_stands_beside_the_operators_and_no_other_tenant_sees_it() -> None:
    tables = tables_of(OFFLINE, EXACT)
    mine = tables.of(TENANT).resolve("sim-fast", Operation.GENERATE)
    assert {route.deployment.name for route in mine.routes} == {"own", "fast"}
    other = tables.of("0190b6a0-0000-7000-8000-000000000002")
    found = other.resolve("sim-fast", Operation.GENERATE)
    assert [route.deployment.name for route in found.routes] == ["fast"]
    assert "own" not in other.records


def test_what_the_operator_changes_is_in_the_tables_of_all_tenants() -> None:
    tables = tables_of(OFFLINE)
    held = tables.of(TENANT)
    tables.put_operated(operated(OFFLINE, EXACT))
    assert set(tables.of(TENANT).records) == {"offline", "own", "fast"}
    assert set(held.records) == {"offline", "own"}
    tables.put_tenant(TENANT, TenantRouting())
    assert tables.of(TENANT) is tables.of("0190b6a0-0000-7000-8000-000000000002")


def test_the_tenants_policy_rules_before_the_operators_and_a_name_before_a_pattern() -> None:
    operators = (
        RoutingPolicy("rest"),
        RoutingPolicy("sims", models=("sim-*",)),
        RoutingPolicy("exact", models=("sim-fast",)),
    )
    table = RoutingTable(operated(EXACT, PATTERN, policies=operators))
    assert table.policy_of("sim-fast") == (operators[2], "")
    assert table.policy_of("sim-b") == (operators[1], "")
    assert table.policy_of("offline") == (operators[0], "")
    own = RoutingPolicy("own", models=("sim-fast",))
    table = RoutingTable(operated(EXACT, PATTERN, policies=operators), (), (own,))
    assert table.policy_of("sim-fast") == (own, "own")
    assert table.resolve("sim-fast", Operation.GENERATE).ruled_by == "own"
    assert table.policy_of("sim-b") == (operators[1], "")


def test_a_tenants_policy_sets_the_breaker_of_its_own_deployments_alone() -> None:
    operators = RoutingPolicy(models=("sim-fast",), cool_down=CoolDown(consecutive_failures=9))
    own = RoutingPolicy("own", models=("sim-fast",), cool_down=CoolDown(consecutive_failures=1))
    table = RoutingTable(operated(EXACT, policies=(operators,)), served(OWN), (own,))
    routes = table.resolve("sim-fast", Operation.GENERATE).routes
    failures = {one.deployment.name: one.cool_down.consecutive_failures for one in routes}
    assert failures == {"own": 1, "fast": 9}


def test_a_tenants_alias_does_not_widen_its_plan() -> None:
    assert EXACT.plan_names("sim-fast") == ("sim-fast", "fast")
    assert OWN.plan_names("sim-fast") == ("mine",)


def test_the_version_is_the_same_for_the_same_content_and_another_after_a_change() -> None:
    tables = tables_of(OFFLINE, EXACT)
    version = tables.of(TENANT).version
    assert tables_of(OFFLINE, EXACT).of(TENANT).version == version
    assert tables_of(OFFLINE).of(TENANT).version != version
    tables.put_tenant(TENANT, TenantRouting((DeploymentRecord(replace(OWN, weight=7)),)))
    assert tables.of(TENANT).version != version
