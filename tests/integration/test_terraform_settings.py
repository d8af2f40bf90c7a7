"""What infra/terraform hands over is what the platform reads and infra/k8s asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import redis.asyncio
import yaml
from redis.asyncio.connection import SSLConnection

from meshwright_common.events.kafka_connection import connecting
from meshwright_common.settings import load
from meshwright_rag.settings import Settings
from tests.integration.terraform_plan import TERRAFORM, plan, refusal

pytestmark = pytest.mark.timeout(900)

ROOT: Final = Path(__file__).parents[2]
KUBERNETES: Final = ROOT / "infra/k8s"
VARIABLE: Final = re.compile(r"^    (MESHWRIGHT_\w+) += (.*?)(?=^    [A-Z#}]|^  \})", re.M | re.S)
REFERENCE: Final = re.compile(r"\$\{((?:[^{}\"]|\"[^\"]*\")*)\}")
STANDING_IN: Final = {
    "module.postgres.port": "5432",
    "module.redis.port": "6379",
    "module.kafka.brokers": "b-1.kafka.example:9096,b-2.kafka.example:9096",
    "module.objects.bucket": "example-meshwright-prod-objects",
    "module.objects.region": "eu-central-1",
    "module.observability.otlp_endpoint": "http://otel-collector.monitoring.svc:4318",
}
"""What the modules tell; any other reference stands for a host, a user or a password."""


def handed_over() -> dict[str, str]:
    """Return the settings that the module `platform` makes, by environment variable."""
    text = (TERRAFORM / "modules/platform/settings.tf").read_text()
    return {name: _evaluated(expression) for name, expression in VARIABLE.findall(text)}


def _evaluated(expression: str) -> str:
    filled = REFERENCE.sub(lambda found: STANDING_IN.get(found.group(1), "word"), expression)
    literals = re.findall(r'"([^"]*)"', filled)
    return "".join(literals) or STANDING_IN[expression.strip()]


def manifests(folder: Path) -> list[dict[str, Any]]:
    return [
        one
        for file in sorted(folder.rglob("*.yaml"))
        for one in yaml.safe_load_all(file.read_text())
        if isinstance(one, dict)
    ]


@pytest.mark.promise("OPS-TF-05")
def test_the_platform_reads_every_setting_that_is_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = handed_over()
    assert len(names) == 10
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    settings = load(Settings)
    database = urlsplit(settings.database.url_for("model-router"))
    assert database.username == "meshwright_model_router"
    assert parse_qs(database.query)["sslmode"] == ["verify-full"]
    assert connecting(settings.events)["security_protocol"] == "SASL_SSL"
    pool = redis.asyncio.BlockingConnectionPool.from_url(settings.redis.url)
    assert pool.connection_class is SSLConnection
    assert urlsplit(settings.dispatch.url).scheme == "amqps"
    assert settings.rag.full_text.url.startswith("https://")
    assert settings.rag.full_text.ca_file is not None
    assert not settings.rag.vectors.is_embedded
    assert settings.objects.url.startswith("s3://")
    assert settings.telemetry.otlp_endpoint.endswith(":4318")


@pytest.mark.promise("OPS-TF-05")
def test_secrets_have_the_names_under_which_the_manifests_ask_for_them() -> None:
    made = {secret["name"] for secret in plan("prod").of("aws_secretsmanager_secret").values()}
    overlay = (KUBERNETES / "overlays/prod/kustomization.yaml").read_text()
    asked = set(re.findall(r"value: (meshwright-prod/[a-z/-]+)", overlay))
    keys_of_people = {name for name in asked if name.startswith("meshwright-prod/keys/")}
    assert asked - keys_of_people == {
        "meshwright-prod/settings",
        "meshwright-prod/keda",
        "meshwright-prod/master-keys",
    }
    assert asked - keys_of_people <= made


@pytest.mark.promise("OPS-TF-05")
def test_pods_that_may_use_objects_have_the_names_of_the_manifests() -> None:
    links = plan("prod").of("aws_eks_pod_identity_association")
    accounts = {
        link["service_account"] for link in links.values() if link["namespace"] == "meshwright"
    }
    known = {
        one["metadata"]["name"]
        for one in manifests(KUBERNETES / "base")
        if one.get("kind") == "ServiceAccount"
    }
    assert accounts == {"session", "rag"}
    assert accounts <= known
    # Each may reach the agent that gives it the role.
    (policy,) = manifests(KUBERNETES / "components/aws")[1:]
    assert accounts == set(policy["spec"]["podSelector"]["matchExpressions"][0]["values"])


@pytest.mark.promise("OPS-TF-05")
def test_authorities_are_read_where_the_manifests_put_them() -> None:
    settings = handed_over()
    pod = (KUBERNETES / "base/common/pod.yaml").read_text()
    for name in ("MESHWRIGHT_DATABASE__URL", "MESHWRIGHT_RAG__FULL_TEXT__CA_FILE"):
        assert "/etc/meshwright/ca/" in settings[name]
    assert "mountPath: /etc/meshwright/ca" in pod
    assert "name: meshwright-engines" in pod


@pytest.mark.promise("OPS-TF-06")
def test_variables_that_make_no_sense_are_refused_in_words() -> None:
    said = refusal("prod", region="Frankfurt", account_id="12", zones='["eu-central-1a"]')
    assert "region must be a region of AWS, such as eu-central-1." in said
    assert "account_id must be the 12 digits of an AWS account." in said
    said = refusal(
        "prod",
        zones='["eu-central-1a", "eu-central-1a", "eu-central-1b"]',
        administrators="{}",
        public_access_cidrs='["0.0.0.0/0"]',
        host="meshwright.example.org",
        alarm_addresses='["pager"]',
    )
    assert "zones must be three different ones" in said
    assert "administrators must name one role at least" in said
    assert "never everybody (/0)" in said
    assert "host must be a name below the zone" in said
    assert "alarm_addresses must be e-mail addresses" in said
