"""Fixtures of the tests that run the whole platform."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import child, module
from meshwright_common.testing.memory_folder import memory_folder
from tests import model_faults
from tests.asking import LANGCHAIN_ANSWER
from tests.mcp_workshop import mcp_environment
from tests.platform_process import Platform, running_platform
from tests.production_engines import production_environment
from tests.traces import tracing_environment
from tests.webhook_receiver import NOWHERE_HOST, WebhookReceiver, receiving_webhooks

PLATFORM_TIMEOUT_SECONDS = 240
"""For a test that may be the one that starts the platform, on a busy machine."""
PROVIDER_KEY = "sk-of-the-tests-operator-000000"
"""What the simulated provider is sent by deployments of tenants that name the credential `main`."""
LONG_SECONDS = 180
"""A test that is given so much is one to begin with."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest; give more time to tests of the whole platform."""
    # They wait more than they work: at the end, the other processes would be idle beside them.
    items.sort(key=lambda item: -_patience(item))
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if {"platform", "data_folder"} & set(fixtures) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PLATFORM_TIMEOUT_SECONDS))


def _patience(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0]) if marker else 0.0
    return seconds if seconds >= LONG_SECONDS else 0.0


@pytest.fixture(scope="session")
def provider_url() -> Iterator[str]:
    """A simulated provider; what it answers stands in the model's name (bench/directives.py)."""
    cores = frozenset(os.sched_getaffinity(0))
    command = module("bench.upstream_simulator", "--port", "0", "--record")
    with child(command, ready=r"^listening (127\.0\.0\.1:\d+)", cores=cores) as running:
        yield f"http://{running.ready[1]}"


@pytest.fixture(scope="session")
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """A server that the tests' platforms may tell what happens."""
    with receiving_webhooks() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def provider_environment(
    provider_url: str, webhook_receiver: WebhookReceiver, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Settings with the simulated provider behind every model named `sim-…`.

    `anthropic-…` and `azure-…` speak those providers' protocols with it, `rerank-…` and
    `moderate-…` are for these; `langchain-fake` is a model of LangChain.
    """
    openai = f"{provider_url}/v1"
    deployments = [
        {"name": "sim*", "model": "*", "base_url": openai},
        {"name": "anthropic-*", "model": "*", "provider": "anthropic", "base_url": openai},
        {"name": "azure-*", "model": "*", "provider": "azure", "base_url": provider_url},
        {"name": "rerank-*", "model": "*", "base_url": openai, "capabilities": ["rerank"]},
        {"name": "moderate-*", "model": "*", "base_url": openai, "capabilities": ["moderate"]},
        {
            "name": "langchain-fake",
            "provider": "langchain",
            "factory": "langchain_core.language_models:FakeListChatModel",
            "arguments": {"responses": [LANGCHAIN_ANSWER]},
        },
    ]
    file = tmp_path_factory.mktemp("config") / "meshwright.yaml"
    models = file.with_name("models.yaml")
    here = provider_url.removeprefix("http://")
    credential = {"name": "main", "env": "TESTS_PROVIDER_KEY", "hosts": [here], "tenants": ["*"]}
    egress = {"private_hosts": [here, "localhost:9"], "hosts": ["api.openai.com"]}
    faulty = model_faults.deployments(provider_url)
    models.write_text(
        json.dumps({"egress": egress, "credentials": [credential], "deployments": faulty})
    )
    # JSON is YAML. The offline model stays the default.
    file.write_text(json.dumps({"models": {"deployments": deployments, "default": "offline"}}))
    return {
        "MESHWRIGHT_CONFIG": str(file),
        "MESHWRIGHT_MODELS__FILE": str(models),
        "TESTS_PROVIDER_KEY": PROVIDER_KEY,
        **quick_webhooks(webhook_receiver),
        **mcp_environment(),
        # Programs of tests join from here. What they left behind is to stay as it is.
        "MESHWRIGHT_ORCHESTRATOR__REMOTE_AGENTS__NETWORKS": '["127.0.0.0/8"]',
        "MESHWRIGHT_ORCHESTRATOR__REMOTE_AGENTS__HEARTBEAT_SECONDS": "60",
        "MESHWRIGHT_ORCHESTRATOR__REMOTE_AGENTS__WAIT_SECONDS": "5",
        # Nobody wants to wait a minute for them.
        "MESHWRIGHT_IDENTITY__DENIAL_REPORT_SECONDS": "1",
        # Tests do in seconds what users do in hours.
        **generous_limits(),
    }


def quick_webhooks(receiver: WebhookReceiver) -> dict[str, str]:
    """Return settings by which webhooks reach the tests' receiver, and are tried again at once."""
    hosts = json.dumps([receiver.host, receiver.told_host, NOWHERE_HOST])
    return {
        "MESHWRIGHT_SESSION__WEBHOOKS__EGRESS__ALLOWED_HOSTS": hosts,
        "MESHWRIGHT_SESSION__WEBHOOKS__ALLOW_HTTP": "true",
        "MESHWRIGHT_SESSION__WEBHOOKS__RETRY_SECONDS": "[0.2, 0.2]",
        "MESHWRIGHT_SESSION__WEBHOOKS__LOOK_SECONDS": "0.2",
        # Each test that looks for what others may find has one of its own.
        "MESHWRIGHT_SESSION__WEBHOOKS__PER_TENANT": "1000",
    }


def generous_limits() -> dict[str, str]:
    """Return settings of request limits that no test reaches by accident."""
    limits = "MESHWRIGHT_GATEWAY__LIMITS"
    tiers = ("FREE", "PRO", "ENTERPRISE")
    return {
        **{f"{limits}__TIERS__{tier}__PER_MINUTE": "1000000" for tier in tiers},
        **{f"{limits}__TIERS__{tier}__CONCURRENT": "5000" for tier in tiers},
        f"{limits}__ADDRESS__PER_SECOND": "20000",
        **{
            f"{limits}__ROUTES__{route}__PER_MINUTE": "1000000"
            for route in ("CHAT", "AGENTS", "SEARCH")
        },
    }


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder that does not exist yet."""
    with memory_folder(tmp_path) as folder:
        yield folder / "data"


@pytest.fixture(scope="session", params=["together", "production"])
def platform(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    provider_environment: dict[str, str],
) -> Iterator[Platform]:
    """The platform, shared by the tests: make tenants of your own.

    In one process on embedded engines, and in one per service on nothing but the engines of
    production. What differs when services apart use embedded engines asks for "split".
    """
    arrangement = str(request.param)
    folder = tmp_path_factory.mktemp(arrangement)
    # Nobody waits here for tokens and leases of minutes to end.
    environment = provider_environment | {
        "MESHWRIGHT_SESSION__ERASURE_SETTLE_SECONDS": "2",
        "MESHWRIGHT_GATEWAY__RECHECK_SECONDS": "5",
    }
    limits = folder / "limits.yaml"
    limits.write_text("{}")
    environment["MESHWRIGHT_GATEWAY__LIMITS__FILE"] = str(limits)
    environment |= tracing_environment(folder)
    if arrangement == "production":
        environment |= production_environment(request.getfixturevalue("server_address"))
    with (
        memory_folder(folder) as place,
        running_platform(
            place / "data", split=arrangement != "together", environment=environment
        ) as running,
    ):
        yield running
