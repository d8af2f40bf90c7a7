"""Each Deployment starts, is asked, stops and is kept apart as the code needs it (OPS-K8S)."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from meshwright_common.settings import SERVICE_NAMES, LifecycleSettings
from tests.code_facts import text_of, work_apart
from tests.manifests import CHECK, COMPONENT, NAME, Arrangement, matrix, selected

pytestmark = pytest.mark.timeout(120)
"""The first one renders for all, on a busy machine."""
Arrangements = Mapping[str, Arrangement]
PLATFORM_PORTS = {"grpc": 50051, "metrics": 9464}


def longest_stop_seconds(lifecycle: LifecycleSettings) -> float:
    """Return how long the steps of `Lifecycle.stop`, and closing, take if each uses its limit."""
    return (
        lifecycle.grace_seconds  # to deregister
        + lifecycle.drain_delay_seconds
        + lifecycle.grace_seconds  # to drain
        + 2 * lifecycle.join_timeout_seconds  # background work: asked, then cancelled
        + lifecycle.grace_seconds  # open calls
        + lifecycle.close_timeout_seconds
    )


@pytest.mark.promise("OPS-K8S-01")
def test_a_pod_may_take_as_long_to_stop_as_its_process_may(arrangements: Arrangements) -> None:
    needed = longest_stop_seconds(LifecycleSettings())
    for arrangement, workload in matrix(arrangements):
        pause = workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        granted = workload.pod["terminationGracePeriodSeconds"]
        assert granted > pause + needed, f"{arrangement.name}: {workload.name}"
        changed = [name for name in arrangement.environment(workload) if "DRAIN" in name]
        assert changed == [], "the sum above is of the defaults"


@pytest.mark.promise("OPS-K8S-01")
def test_callers_have_looked_elsewhere_before_a_pod_is_told_to_stop(
    arrangements: Arrangements,
) -> None:
    from meshwright_common.registry.dns import LOOK_SECONDS  # noqa: PLC0415

    cached_seconds = 5
    for _, workload in matrix(arrangements):
        pause = workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause > LOOK_SECONDS + cached_seconds


@pytest.mark.promise("OPS-K8S-02")
def test_probes_ask_what_the_process_answers(arrangements: Arrangements) -> None:
    patience = LifecycleSettings().checks_timeout_seconds
    for arrangement, workload in matrix(arrangements):
        where = f"{arrangement.name}: {workload.name}"
        probes = {
            kind: workload.container[f"{kind}Probe"]
            for kind in ("startup", "readiness", "liveness")
        }
        startup = probes["startup"]
        assert startup["periodSeconds"] * startup["failureThreshold"] > patience, where
        liveness = probes["liveness"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60, where
        for kind, probe in probes.items():
            if workload.service == "gateway":
                path = "/health/ready" if kind == "readiness" else "/health/live"
                assert probe["httpGet"] == {"path": path, "port": "http"}, where
                assert f'"{path}"' in text_of("gateway")
            elif "mutual-tls" in arrangement.name:
                asked = ["python", "-m", "meshwright_common.ask_health", workload.service]
                assert probe["exec"]["command"] == asked, where
            else:
                # No service: the whole process, which no store takes back once it serves.
                assert probe["grpc"] == {"port": PLATFORM_PORTS["grpc"]}, where


@pytest.mark.promise("OPS-K8S-03")
def test_a_roll_out_takes_nothing_away_before_its_successor_is_there(
    arrangements: Arrangements,
) -> None:
    for _, workload in matrix(arrangements):
        strategy = workload.manifest["spec"]["strategy"]
        assert strategy["type"] == "RollingUpdate"
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0
        assert strategy["rollingUpdate"]["maxSurge"] not in (0, "0%")


@pytest.mark.promise("OPS-K8S-04")
def test_containers_can_do_nothing_that_they_do_not_need(arrangements: Arrangements) -> None:
    jobs = [
        one.of_kind("Job")["migrate"]["spec"]["template"]["spec"] for one in arrangements.values()
    ]
    for pod in (*(workload.pod for _, workload in matrix(arrangements)), *jobs):
        (container,) = pod["containers"]
        assert "initContainers" not in pod
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        resources = container["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
        writable = [one for one in container["volumeMounts"] if not one.get("readOnly")]
        assert [one["mountPath"] for one in writable] == ["/tmp"]  # noqa: S108
        for account in (pod["serviceAccountName"],):
            for arrangement in arrangements.values():
                accounts = arrangement.of_kind("ServiceAccount")
                assert accounts[account]["automountServiceAccountToken"] is False


@pytest.mark.promise("OPS-K8S-05")
def test_each_work_that_may_run_apart_is_done_by_one_workload(arrangements: Arrangements) -> None:
    for arrangement in arrangements.values():
        done: dict[str, list[str]] = {service: [] for service in SERVICE_NAMES}
        for workload in arrangement.workloads.values():
            apart = work_apart(workload.service)
            variables = arrangement.environment(workload)
            work = yaml.safe_load(variables.get("MESHWRIGHT_LIFECYCLE__WORK", '["*"]'))
            done[workload.service] += sorted(apart) if work == ["*"] else work
            serves = yaml.safe_load(variables.get("MESHWRIGHT_LIFECYCLE__SERVE", "true"))
            assert serves is (workload.name == workload.service)
            if serves and apart:
                assert work == [], "what calls do not need is not done beside them"
        for service, names in done.items():
            assert sorted(names) == sorted(work_apart(service)), arrangement.name


@pytest.mark.promise("OPS-K8S-06")
def test_nodes_and_zones_are_lost_without_a_workload(arrangements: Arrangements) -> None:
    for arrangement, workload in matrix(arrangements):
        spread = workload.pod["topologySpreadConstraints"]
        topology = {one["topologyKey"] for one in spread}
        assert topology == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for one in spread:
            assert selected(one["labelSelector"], workload.labels)
            assert COMPONENT in one["matchLabelKeys"]
        if arrangement.name.startswith("prod"):
            budgets = arrangement.of_kind("PodDisruptionBudget")
            assert budgets[workload.name]["spec"]["maxUnavailable"] == 1
            taken = [
                name
                for name, other in arrangement.workloads.items()
                if selected(budgets[workload.name]["spec"]["selector"], other.labels)
            ]
            assert taken == [workload.name]


@pytest.mark.promise("OPS-K8S-07")
def test_selectors_find_their_own_pods_and_no_others(arrangements: Arrangements) -> None:
    for arrangement in arrangements.values():
        workloads = arrangement.workloads
        for name, workload in workloads.items():
            selector = workload.manifest["spec"]["selector"]
            assert [n for n, o in workloads.items() if selected(selector, o.labels)] == [name]
            assert workload.labels[NAME] in SERVICE_NAMES
        for name, service in arrangement.of_kind("Service").items():
            selector = {"matchLabels": service["spec"]["selector"]}
            assert [n for n, o in workloads.items() if selected(selector, o.labels)] == [name]
            ports = {one["name"] for one in workloads[name].container["ports"]}
            assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
            # Callers balance by themselves, over all addresses of the name.
            assert service["spec"].get("clusterIP") == (None if name == "gateway" else "None")


@pytest.mark.promise("OPS-K8S-08")
def test_a_field_that_nobody_knows_is_refused(arrangements: Arrangements, tmp_path: Path) -> None:
    prod = arrangements["prod"]
    right = prod.of_kind("Deployment")["chat"]
    scaler = prod.of_kind("ScaledObject")["chat"]
    files = {
        "right": [right, scaler],
        "deployment": [{**right, "spec": {**right["spec"], "replica": 2}}],
        "scaler": [{**scaler, "spec": {**scaler["spec"], "minReplicas": 2}}],
        "kind": [{**right, "apiVersion": "apps/v1beta9"}],
    }
    for name, items in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(items))
    ended = subprocess.run(
        [CHECK, "validate", *tmp_path.glob("*.yaml")], capture_output=True, check=False, text=True
    )
    assert ended.returncode == 1
    lines = [line.partition(":") for line in ended.stderr.splitlines() if ": " in line]
    told = {name: what for name, _, what in lines}
    assert set(told) == {"deployment", "scaler", "kind"}, ended.stderr
    assert "replica" in told["deployment"]
    assert "minReplicas" in told["scaler"]
