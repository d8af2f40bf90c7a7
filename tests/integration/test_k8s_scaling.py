"""What scales a workload exists: metrics, queues, topics and consumers by the code's own names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.rabbitmq_topology import Topology
from meshwright_common.events.relay import SHARDS
from meshwright_common.events.topics import Topic
from meshwright_common.settings import EventSettings
from meshwright_common.telemetry import metric_names
from meshwright_orchestrator.app import KINDS
from meshwright_rag import consumers as rag
from meshwright_session import consumers, notices
from tests.manifests import Arrangement

pytestmark = pytest.mark.timeout(120)
"""The first one renders for all, on a busy machine."""
Arrangements = Mapping[str, Arrangement]
METRICS = {value for name, value in vars(metric_names).items() if name.isupper()}
CONSUMED: Mapping[str, tuple[tuple[Topic, ...], str]] = {
    consumers.CONSUMER: (consumers.TOPICS, "session-consumer"),
    notices.NOTICES: (notices.NOTICE_TOPICS, "session-consumer"),
    rag.CONSUMER: ((Topic.DOCUMENT_INDEX,), "rag-indexer"),
}


def scalers(arrangement: Arrangement) -> dict[str, dict[str, Any]]:
    """Return the specs of KEDA's scalers by their targets."""
    items = arrangement.of_kind("ScaledObject").values()
    return {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in items}


def triggers(spec: Mapping[str, Any], kind: str) -> list[dict[str, str]]:
    """Return what triggers of a kind say."""
    return [one["metadata"] for one in spec["triggers"] if one["type"] == kind]


@pytest.mark.promise("OPS-K8S-13")
def test_a_workload_has_one_scaler_and_then_no_fixed_count(arrangements: Arrangements) -> None:
    for arrangement in arrangements.values():
        if not arrangement.name.startswith("prod"):
            continue
        by_load = {
            one["spec"]["scaleTargetRef"]["name"]: one["spec"]
            for one in arrangement.of_kind("HorizontalPodAutoscaler").values()
        }
        by_work = scalers(arrangement)
        assert set(by_load) & set(by_work) == set()
        fixed = {
            name: one.manifest["spec"]["replicas"]
            for name, one in arrangement.workloads.items()
            if "replicas" in one.manifest["spec"]
        }
        assert set(by_load) | set(by_work) | set(fixed) == set(arrangement.workloads)
        assert not set(fixed) & (set(by_load) | set(by_work))
        least = fixed | {name: one["minReplicas"] for name, one in by_load.items()}
        least |= {name: one["minReplicaCount"] for name, one in by_work.items()}
        assert min(least.values()) >= 2
        assert least["gateway"] >= 3


@pytest.mark.promise("OPS-K8S-13")
def test_lanes_are_the_queues_of_the_code(arrangements: Arrangements) -> None:
    topology = Topology("", KINDS)
    spec = scalers(arrangements["prod"])["orchestrator-worker"]
    queues = {one["queueName"] for one in triggers(spec, "rabbitmq")}
    assert queues == {topology.work_queue(kind, lane) for kind in KINDS for lane in Lane}
    assert queues <= {one.name for one in topology.queues()}


@pytest.mark.promise("OPS-K8S-13")
def test_lag_is_that_of_the_consumers_which_the_workload_runs(arrangements: Arrangements) -> None:
    prod = arrangements["prod"]
    watched = {
        (target, one["consumerGroup"], one["topic"])
        for target, spec in scalers(prod).items()
        for one in triggers(spec, "kafka")
    }
    expected = {
        (target, group, topic.value)
        for group, (topics, target) in CONSUMED.items()
        for topic in topics
    }
    assert watched == expected
    for target, _, _ in watched:
        # More consumers than partitions would have nothing to do.
        assert scalers(prod)[target]["maxReplicaCount"] <= EventSettings().partitions
        container = prod.workloads[target].container
        brokers = [one["name"] for one in container["env"]]
        assert "KAFKA_BOOTSTRAP_SERVERS" in brokers
    assert scalers(prod)["session-relay"]["maxReplicaCount"] <= SHARDS


@pytest.mark.promise("OPS-K8S-13")
def test_queries_ask_for_metrics_that_the_code_exports(arrangements: Arrangements) -> None:
    asked: dict[str, set[str]] = {}
    for target, spec in scalers(arrangements["prod"]).items():
        for one in triggers(spec, "prometheus"):
            asked[target] = set(re.findall(r"meshwright_\w+", one["query"]))
    assert asked == {
        "gateway": {metric_names.LOAD_RUNNING},
        "chat": {metric_names.TURNS_RUNNING},
        "orchestrator-worker": {metric_names.TASK_BACKLOG},
        "session-relay": {metric_names.OUTBOX_WAITING},
    }
    assert set().union(*asked.values()) <= METRICS


@pytest.mark.promise("OPS-K8S-13")
def test_everything_at_its_most_fits_into_the_quota(arrangements: Arrangements) -> None:
    prod = arrangements["prod"]
    most = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["maxReplicas"]
        for one in prod.of_kind("HorizontalPodAutoscaler").values()
    }
    most |= {name: one["maxReplicaCount"] for name, one in scalers(prod).items()}
    sums = {"requests.cpu": 0.0, "requests.memory": 0.0, "limits.memory": 0.0, "pods": 1.0}
    for name, workload in prod.workloads.items():
        # A roll-out adds a quarter.
        pods = most.get(name, 0) * 1.25 or workload.manifest["spec"]["replicas"] + 1
        sums["pods"] += pods
        for key in ("requests.cpu", "requests.memory", "limits.memory"):
            kind, resource = key.split(".")
            sums[key] += pods * quantity(workload.container["resources"][kind][resource])
    (quota,) = prod.of_kind("ResourceQuota").values()
    for key, needed in sums.items():
        granted = quantity(quota["spec"]["hard"][key])
        assert needed <= granted <= 1.5 * needed, (
            f"{key}: {needed} of {granted}: {json.dumps(sums)}"
        )


def quantity(text: str) -> float:
    """Return a quantity of Kubernetes as a number."""
    units = {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "": 1.0}
    found = re.fullmatch(r"(\d+)(m|Mi|Gi|)", str(text))
    assert found, text
    return float(found[1]) * units[found[2]]
