"""Plans of infra/terraform, made without a cloud (infra/dev/terraform/offline.sh)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
TERRAFORM: Final = ROOT / "infra/terraform"
OFFLINE: Final = ROOT / "infra/dev/terraform/offline.sh"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an environment would make: every value that it sets, nothing that a cloud decides."""

    text: str
    resources: dict[str, dict[str, Any]]
    """Values by address, without the beginning that all have."""

    @property
    def types(self) -> frozenset[str]:
        """Every type of resource, with its module."""
        return frozenset(address.partition("[")[0] for address in self.resources)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of a type by address."""
        return {
            address: values
            for address, values in self.resources.items()
            if f".{kind}." in f".{address}"
        }

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only resource of a type."""
        found = self.of(kind)
        assert len(found) == 1, f"{kind}: {sorted(found)}"
        return next(iter(found.values()))


def plan(environment: str) -> Plan:
    """Return the plan of an environment with the variables of its example."""
    ran = _run(environment)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    return Plan(ran.stdout, dict(_resources(told["planned_values"]["root_module"])))


def refusal(environment: str, **variables: str) -> str:
    """Return what is said of these variables, in one line; they must be refused."""
    ran = _run(environment, *(f"-var={name}={value}" for name, value in variables.items()))
    assert ran.returncode == 1, "they were taken"
    return " ".join(ran.stderr.split())


def _run(environment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OFFLINE, "plan", environment, *arguments], capture_output=True, text=True, check=False
    )


def _resources(module: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in module.get("resources", ()):
        yield resource["address"].removeprefix("module.platform."), resource.get("values", {})
    for child in module.get("child_modules", ()):
        yield from _resources(child)
