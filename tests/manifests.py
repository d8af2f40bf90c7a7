"""The manifests of infra/k8s as a cluster would get them, to be asked by tests."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
CHECK: Final = ROOT / "infra" / "dev" / "check_k8s.sh"
NAME: Final = "app.kubernetes.io/name"
COMPONENT: Final = "app.kubernetes.io/component"
Json = dict[str, Any]

SECRETS: Final = {
    "MESHWRIGHT_DATABASE__URL": "postgresql://meshwright_{service}:pw@db:5432/meshwright",
    "MESHWRIGHT_REDIS__URL": "rediss://:pw@redis:6379/0",
    "MESHWRIGHT_EVENTS__URL": "kafka+tls://user:pw@one:9096,two:9096",
    "MESHWRIGHT_DISPATCH__URL": "amqps://user:pw@rabbitmq:5671/",
    "MESHWRIGHT_RAG__VECTORS__URL": "http://user:pw@milvus:19530",
    "MESHWRIGHT_RAG__FULL_TEXT__URL": "https://user:pw@search:9200",
    "MESHWRIGHT_ENCRYPTION__MASTER_KEYS": f"k1:{'A' * 43}=",
}
"""What docs/kubernetes.md says that stands in the Secret meshwright-secrets."""
ENGINES: Final = {
    "MESHWRIGHT_OBJECTS__URL": "s3://bucket",
    "MESHWRIGHT_OBJECTS__REGION": "eu-central-1",
    "MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT": "http://collector.monitoring.svc:4318",
    "MESHWRIGHT_RAG__FULL_TEXT__CA_FILE": "/etc/meshwright/ca/elasticsearch.pem",
}
"""What docs/kubernetes.md says that stands in the ConfigMap meshwright-engines."""
_ADDRESS: Final = "10.0.0.7"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, and what its container is."""

    manifest: Json

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def service(self) -> str:
        return str(self.labels[NAME])

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.manifest["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Json:
        pod: Json = self.manifest["spec"]["template"]["spec"]
        return pod

    @property
    def container(self) -> Json:
        (container,) = self.pod["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def secret_variables(self) -> set[str]:
        """Its variables that come from meshwright-secrets."""
        return {
            one["name"]
            for one in self.container["env"]
            if one.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "meshwright-secrets"
        }


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An overlay or a variant, rendered."""

    name: str
    items: tuple[Json, ...]

    def of_kind(self, kind: str) -> dict[str, Json]:
        """Return the objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.items if one["kind"] == kind}

    @property
    def workloads(self) -> dict[str, Workload]:
        """Every Deployment by name."""
        return {name: Workload(one) for name, one in self.of_kind("Deployment").items()}

    def environment(self, workload: Workload) -> dict[str, str]:
        """Return the variables of the workload's process, with samples of what is not here."""
        maps = self.of_kind("ConfigMap")
        variables: dict[str, str] = {}
        for source in workload.container["envFrom"]:
            name = source["configMapRef"]["name"]
            variables |= ENGINES if name == "meshwright-engines" else maps[name]["data"]
        for one in workload.container["env"]:
            variables[one["name"]] = _value(one, variables)
        return variables


def _value(one: Json, before: Mapping[str, str]) -> str:
    if "value" in one:
        # Only what stands before it is filled in, as kubelet does.
        return re.sub(r"\$\((\w+)\)", lambda m: before.get(m[1], m[0]), str(one["value"]))
    if "fieldRef" in one["valueFrom"]:
        return _ADDRESS
    return SECRETS.get(one["valueFrom"]["secretKeyRef"]["key"], "sample")


def render(folder: Path) -> dict[str, Arrangement]:
    """Build everything into `folder`, unless another process of the tests has; return it."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([CHECK, "render", folder], check=True, timeout=300)
            for path in folder.glob("*.yaml"):
                items = list(yaml.load_all(path.read_bytes(), yaml.CSafeLoader))
                path.with_suffix(".json").write_text(json.dumps(items))
            (folder / "complete").touch()
    return {
        path.stem: Arrangement(path.stem, tuple(json.loads(path.read_text())))
        for path in sorted(folder.glob("*.json"))
    }


def selected(selector: Json, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector takes these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for one in selector.get("matchExpressions", []):
        found = labels.get(one["key"]) in one["values"]
        if found is not {"In": True, "NotIn": False}[one["operator"]]:
            return False
    return True


def matrix(arrangements: Mapping[str, Arrangement]) -> Iterator[tuple[Arrangement, Workload]]:
    """Yield each workload of each arrangement."""
    for arrangement in arrangements.values():
        for workload in arrangement.workloads.values():
            yield arrangement, workload
