"""Who may reach whom in the cluster is who calls whom in the code, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from meshwright_common.settings import SERVICE_NAMES
from tests.code_facts import calls, sections_read, text_of
from tests.manifests import NAME, Arrangement, Workload, selected

pytestmark = pytest.mark.timeout(120)
"""The first one renders for all, on a busy machine."""
Arrangements = Mapping[str, Arrangement]
Json = dict[str, Any]
GRPC: Final = 50051
STORE_OF_PORT: Final = {5432: "database", 6379: "redis", 9096: "events", 5671: "dispatch"}


def rules(arrangement: Arrangement, workload: Workload, direction: str) -> Iterator[Json]:
    """Yield the rules of a direction, `ingress` or `egress`, that hold for a workload."""
    for policy in arrangement.of_kind("NetworkPolicy").values():
        if selected(policy["spec"]["podSelector"], workload.labels):
            yield from policy["spec"].get(direction, [])


def ports_of(rule: Json) -> set[int]:
    """Return the ports of a rule, which has to name some."""
    return {int(one["port"]) for one in rule["ports"]}


def pods(rule: Json, side: str, workloads: Mapping[str, Workload]) -> set[str]:
    """Return the names of our workloads that a rule names by their labels."""
    return {
        name
        for name, workload in workloads.items()
        for peer in rule[side]
        if "podSelector" in peer
        and "namespaceSelector" not in peer
        and selected(peer["podSelector"], workload.labels)
    }


@pytest.mark.promise("OPS-K8S-12")
def test_nothing_is_open_that_no_policy_opens(arrangements: Arrangements) -> None:
    for arrangement in arrangements.values():
        policies = arrangement.of_kind("NetworkPolicy")
        assert policies["default-deny"]["spec"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }
        for name, policy in policies.items():
            for direction, side in (("ingress", "from"), ("egress", "to")):
                for rule in policy["spec"].get(direction, []):
                    assert rule[side], name
                    assert rule["ports"], name


@pytest.mark.promise("OPS-K8S-12")
def test_calls_between_services_are_those_of_the_code_on_both_sides(
    arrangements: Arrangements,
) -> None:
    for arrangement in arrangements.values():
        workloads = arrangement.workloads
        leaving, coming = set(), set()
        for name, workload in workloads.items():
            for rule in rules(arrangement, workload, "egress"):
                if GRPC in ports_of(rule):
                    leaving |= {(name, peer) for peer in pods(rule, "to", workloads)}
            for rule in rules(arrangement, workload, "ingress"):
                if GRPC in ports_of(rule):
                    coming |= {(peer, name) for peer in pods(rule, "from", workloads)}
        assert leaving == coming, arrangement.name
        # Workers call as their service does, and nobody calls them.
        expected = {
            (name, callee)
            for name, workload in workloads.items()
            for caller, callee in calls()
            if workload.service == caller
        }
        assert leaving == expected, arrangement.name


@pytest.mark.promise("OPS-K8S-12")
def test_a_store_is_reached_by_those_whose_code_reads_where_it_is(
    arrangements: Arrangements,
) -> None:
    for arrangement in arrangements.values():
        for workload in arrangement.workloads.values():
            open_ports: set[int] = set()
            for rule in rules(arrangement, workload, "egress"):
                open_ports |= ports_of(rule)
            stores = {store for port, store in STORE_OF_PORT.items() if port in open_ports}
            where = f"{arrangement.name}: {workload.name}"
            assert stores == sections_read(workload.service) & set(STORE_OF_PORT.values()), where
            assert ({9200, 19530} <= open_ports) is (workload.service == "rag"), where


@pytest.mark.promise("OPS-K8S-12")
def test_the_internet_is_reached_by_those_that_have_something_to_do_there(
    arrangements: Arrangements,
) -> None:
    # model-router calls providers, tool-exec fetches pages, the webhooks are one of session's jobs.
    assert {one for one in SERVICE_NAMES if "open_egress(" in text_of(one)} == {
        "session",
        "tool-exec",
    }
    for arrangement in arrangements.values():
        reaching = {}
        for name, workload in arrangement.workloads.items():
            for rule in rules(arrangement, workload, "egress"):
                for peer in rule["to"]:
                    block = peer.get("ipBlock", {})
                    if block.get("cidr") == "0.0.0.0/0" and "10.0.0.0/8" in block["except"]:
                        assert "169.254.0.0/16" in block["except"]
                        reaching[name] = ports_of(rule)
        assert reaching == {
            "model-router": {443},
            "tool-exec": {80, 443},
            "session-jobs": {443, 8443},
        }
        work = arrangement.environment(arrangement.workloads["session-jobs"])
        assert '"webhooks"' in work["MESHWRIGHT_LIFECYCLE__WORK"]


@pytest.mark.promise("OPS-K8S-12")
def test_names_are_looked_up_and_metrics_scraped_everywhere(arrangements: Arrangements) -> None:
    for arrangement in arrangements.values():
        (monitor,) = arrangement.of_kind("PodMonitor").values()
        for workload in arrangement.workloads.values():
            assert any(53 in ports_of(one) for one in rules(arrangement, workload, "egress"))
            scraped = [
                rule for rule in rules(arrangement, workload, "ingress") if 9464 in ports_of(rule)
            ]
            assert len(scraped) == 1
            assert selected(monitor["spec"]["selector"], workload.labels)
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        labels = {one["targetLabel"]: one for one in endpoint["relabelings"]}
        assert labels["job"]["replacement"] == "meshwright"
        source = "__meta_kubernetes_pod_label_" + NAME.replace(".", "_").replace("/", "_")
        assert labels["service"]["sourceLabels"] == [source]
