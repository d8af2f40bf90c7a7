"""compose.yaml against the code: each service takes the settings that it is given there."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
from functools import cache
from typing import Any

import pytest

from meshwright_cli.environment import PlatformSettings
from meshwright_common.settings import PREFIX, SERVICE_NAMES, CommonSettings, load
from tests.integration.image_tree import ROOT, USER

PROFILES = ("core", "full observability")
SECRETS = re.compile(r"^(\w*(?:PASSWORD|MASTER_KEYS))=(.+)$", re.MULTILINE)

# The first one on a machine builds the reader.
pytestmark = [pytest.mark.timeout(300), pytest.mark.promise("OPS-IMAGE-03")]


@cache
def project(profiles: str) -> dict[str, Any]:
    """Return what Docker would run, as Compose's own library reads it."""
    told = _output([ROOT / "infra/compose/environment.sh", *profiles.split()])
    variables = dict(line.split("=", 1) for line in told.splitlines())
    reader = _output([ROOT / "infra/dev/compose.sh"]).strip()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    said: dict[str, Any] = json.loads(
        _output([reader, ROOT / "compose.yaml"], {**clean, **variables})
    )
    return said


def _output(command: list[Any], environment: dict[str, str] | None = None) -> str:
    ended = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, cwd=ROOT
    )
    return ended.stdout


def settings_of(service: str) -> type[CommonSettings]:
    module = importlib.import_module(f"meshwright_{service.replace('-', '_')}.settings")
    found: type[CommonSettings] = module.Settings
    return found


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("service", SERVICE_NAMES)
@pytest.mark.parametrize("profiles", PROFILES)
def test_each_service_knows_and_takes_the_settings_it_is_given(
    service: str, profiles: str, clean_environment: pytest.MonkeyPatch
) -> None:
    given = project(profiles)["services"][service]["environment"]
    for name, value in given.items():
        clean_environment.setenv(name, value)
    settings = load(settings_of(service))
    for name, value in given.items():
        path = name.removeprefix(PREFIX).lower().split("__")
        known: Any = settings
        for part in path:
            assert hasattr(known, part), f"{service} reads no {name}"
            known = getattr(known, part)
        assert str(known).lower() in (value.lower(), value.lower().strip("0")), name


@pytest.mark.parametrize("profiles", PROFILES)
def test_the_migrations_take_their_settings(
    profiles: str, clean_environment: pytest.MonkeyPatch
) -> None:
    for name, value in project(profiles)["services"]["migrate"]["environment"].items():
        clean_environment.setenv(name, value)
    settings = load(PlatformSettings)
    assert "@postgres:5432/meshwright" in settings.database.url
    assert settings.encryption.parsed()
    assert os.environ["MESHWRIGHT_BOOTSTRAP_URL"].endswith("@postgres:5432/postgres")


def test_full_uses_every_engine_of_production() -> None:
    services = project(PROFILES[1])["services"]
    assert services["session"]["environment"]["MESHWRIGHT_EVENTS__URL"].startswith("kafka://")
    assert services["orchestrator"]["environment"]["MESHWRIGHT_DISPATCH__URL"].startswith("amqp://")
    assert services["rag"]["environment"]["MESHWRIGHT_OBJECTS__URL"].startswith("s3://")
    for engine in ("postgres", "valkey", "kafka", "rabbitmq", "consul", "milvus", "elasticsearch"):
        assert services[engine]["healthcheck"]["test"], engine
    assert {"collector", "jaeger", "prometheus", "grafana", "etcd", "minio"} <= services.keys()


@pytest.mark.parametrize("profiles", PROFILES)
def test_every_container_is_bounded_and_without_rights(profiles: str) -> None:
    for name, one in project(profiles)["services"].items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert not one.get("privileged"), name
        for port in one.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name
        if name in SERVICE_NAMES:
            assert one["read_only"], name
            assert one["user"] == f"{USER}:{USER}", name
            keys = [mount for mount in one["volumes"] if mount["target"] == "/etc/meshwright/keys"]
            assert [mount["volume"]["subpath"] for mount in keys] == [name]
            assert keys[0]["read_only"], name


@pytest.mark.parametrize("profiles", PROFILES)
def test_those_who_call_are_stopped_before_those_they_call(profiles: str) -> None:
    services = project(profiles)["services"]

    def called(name: str) -> set[str]:
        direct = set(services[name].get("depends_on", {})) & set(SERVICE_NAMES)
        return direct.union(*(called(other) for other in direct))

    assert called("gateway") == set(SERVICE_NAMES) - {"gateway"}
    assert called("chat") == called("gateway") - {"chat"}
    assert called("orchestrator") == called("chat") - {"orchestrator"}


def test_engines_have_no_port_and_no_way_out() -> None:
    whole = project(PROFILES[1])
    assert whole["networks"]["engines"]["internal"]
    assert whole["networks"]["mesh"]["internal"]
    for name in ("postgres", "valkey", "kafka", "rabbitmq", "consul", "milvus", "elasticsearch"):
        assert list(whole["services"][name]["networks"]) == ["engines"], name
        assert not whole["services"][name].get("ports"), name


def test_passwords_are_fresh_and_not_in_the_file() -> None:
    first = _output([ROOT / "infra/compose/environment.sh", "full"])
    again = _output([ROOT / "infra/compose/environment.sh", "full"])
    file = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    secrets = {found[1]: found[2] for found in SECRETS.finditer(first)}
    assert len(secrets) == 8  # of seven engines, and the master keys
    for found in SECRETS.finditer(again):
        assert secrets[found[1]] != found[2], found[1]
    for name in secrets:
        assert re.search(rf"\$\{{{name}:[?-]", file), f"{name} is not asked for"
    for line in file.splitlines():
        if re.search(r"(?i)(password|secret|_pass|master_keys)\w*:", line):
            assert re.search(r"\$\{[A-Z_]+:[-?]", line), line
