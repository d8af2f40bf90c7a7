"""Each process of the manifests understands its variables, and gets the secrets that it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel

from meshwright_common.settings import PREFIX, SERVICE_NAMES, CommonSettings, load
from tests.code_facts import sections_read
from tests.manifests import ENGINES, ROOT, SECRETS, Arrangement, matrix

pytestmark = pytest.mark.timeout(120)
"""The first one renders for all, on a busy machine."""
Arrangements = Mapping[str, Arrangement]
DOCUMENT = ROOT / "docs" / "kubernetes.md"


def settings_of(service: str) -> type[CommonSettings]:
    """Return the class of a service's settings."""
    module = import_module(f"meshwright_{service.replace('-', '_')}.settings")
    found: type[CommonSettings] = module.Settings
    return found


def is_field(model: Any, path: list[str]) -> bool:
    """Return whether a variable's path leads to a field."""
    for name in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return True
        field = model.model_fields.get(name)
        if field is None:
            return False
        model = field.annotation
    return True


def clean(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Let the environment have these variables of ours and no others."""
    import os  # noqa: PLC0415

    for name in [one for one in os.environ if one.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.promise("OPS-K8S-09")
def test_each_process_understands_its_variables(
    arrangements: Arrangements, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arrangement, workload in matrix(arrangements):
        where = f"{arrangement.name}: {workload.name}"
        variables = arrangement.environment(workload)
        with monkeypatch.context() as patch:
            clean(patch, variables)
            settings = load(settings_of(workload.service))
        ports = {one["name"]: one["containerPort"] for one in workload.container["ports"]}
        assert settings.rpc.listen == f"0.0.0.0:{ports['grpc']}", where
        assert settings.telemetry.metrics_listen == f"0.0.0.0:{ports['metrics']}", where
        mounts = {one["mountPath"] for one in workload.container["volumeMounts"]}
        assert str(settings.identity.keys_dir) in mounts, where
        assert settings.tls.enabled is ("mutual-tls" in arrangement.name), where
        if settings.tls.enabled:
            assert str(settings.tls.certificate_file.parent) in mounts, where  # type: ignore[union-attr]
        watched = settings.registry.url.startswith("consul://")
        assert watched is ("consul" in arrangement.name), where
        if watched:
            assert settings.registry.url == "consul://:sample@10.0.0.7:8500", where
            assert settings.registry.advertise == "10.0.0.7", where


@pytest.mark.promise("OPS-K8S-09")
def test_no_variable_is_one_that_nobody_reads(arrangements: Arrangements) -> None:
    classes: dict[str, type[CommonSettings]] = {
        service: settings_of(service) for service in SERVICE_NAMES
    }
    for arrangement, workload in matrix(arrangements):
        own = {one["name"] for one in workload.container["env"]}
        for name in arrangement.environment(workload):
            if not name.startswith(PREFIX):
                continue
            path = name.removeprefix(PREFIX).lower().split("__")
            # What all share is read by some; what one is given, by that one.
            readers = [workload.service] if name in own else SERVICE_NAMES
            assert any(is_field(classes[one], path) for one in readers), f"{workload.name}: {name}"


@pytest.mark.promise("OPS-K8S-10")
def test_a_process_is_given_the_secrets_that_its_code_reads_and_no_others(
    arrangements: Arrangements,
) -> None:
    for arrangement, workload in matrix(arrangements):
        sections = {
            name.removeprefix(PREFIX).lower().split("__")[0] for name in workload.secret_variables
        }
        # Where objects are is no secret with roles instead of keys.
        wanted = sections_read(workload.service) - {"objects"}
        wanted |= {"rag"} if workload.service == "rag" else set()
        assert sections == wanted, f"{arrangement.name}: {workload.name}"


@pytest.mark.promise("OPS-K8S-10")
def test_no_secret_stands_in_the_manifests_and_each_that_is_named_is_documented(
    arrangements: Arrangements,
) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    for arrangement in arrangements.values():
        assert arrangement.of_kind("Secret") == {}
        text = json.dumps(arrangement.items)
        assert re.findall(r"://[^/\"\s$]*:[^/\"\s$@]+@", text) == []
        names = set(
            re.findall(r'"(?:secretName|secretKeyRef)": (?:\{[^}]*"name": )?"([^"]+)"', text)
        )
        names |= {
            one["name"]
            for item in arrangement.of_kind("TriggerAuthentication").values()
            for one in item["spec"]["secretTargetRef"]
        }
        assert names
        for name in names:
            generic = re.sub(r"-(keys|tls)-[a-z-]+$", r"-\1-SERVICE", name)
            assert f"`{generic}`" in document, f"{arrangement.name}: {name}"
    for variable in (*SECRETS, *ENGINES):
        assert variable in document


@pytest.mark.promise("OPS-K8S-10")
def test_each_service_signs_with_a_key_that_no_other_one_has(arrangements: Arrangements) -> None:
    for _, workload in matrix(arrangements):
        secrets = [
            one["secret"]["secretName"] for one in workload.pod["volumes"] if "secret" in one
        ]
        allowed = {f"meshwright-{kind}-{workload.service}" for kind in ("keys", "tls")}
        assert set(secrets) <= allowed
        assert f"meshwright-keys-{workload.service}" in secrets


@pytest.mark.promise("OPS-K8S-11")
def test_migrations_run_as_the_job_says(
    arrangements: Arrangements, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshwright_cli.environment import PlatformSettings  # noqa: PLC0415
    from meshwright_cli.main import COMMANDS  # noqa: PLC0415

    for arrangement in arrangements.values():
        job = arrangement.of_kind("Job")["migrate"]["spec"]
        (container,) = job["template"]["spec"]["containers"]
        assert container["args"] == ["migrate"]
        assert "migrate" in COMMANDS
        assert container["image"].split("/")[-1].startswith("cli:")
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        sources = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
        # The administrator's login, which is there for the first one alone.
        assert sources.pop("MESHWRIGHT_BOOTSTRAP_URL")["optional"] is True
        variables = {name: SECRETS[name] for name in sources}
        with monkeypatch.context() as patch:
            clean(patch, variables)
            settings = load(PlatformSettings)
        assert settings.database.url_for("owner").startswith("postgresql://meshwright_owner:")
        assert settings.encryption.parsed()
