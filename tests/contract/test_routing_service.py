"""Deployments, policies and prices of a tenant, through the public surface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

ROUTING: Final = "/api/v1/routing"
DEPLOYMENTS: Final = f"{ROUTING}/deployments"
SECONDS: Final = 20.0
"""In which a change is in force: two, where the machine is not busy."""


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    return new_tenant(platform)


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(tenant.api_key) as made:
        yield made


def deployment(provider_url: str, **fields: Any) -> dict[str, Any]:
    """Return a deployment at the simulated provider, with a key of the operator."""
    return {
        "name": "mine",
        "model": "my-model",
        "provider": "openai",
        "provider_model": "sim-n5",
        "base_url": f"{provider_url}/v1",
        "credential_name": "main",
    } | fields


def create(client: httpx.Client, body: dict[str, Any], key: str = "") -> httpx.Response:
    return client.post(DEPLOYMENTS, json=body, headers={"idempotency-key": key} if key else {})


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json().get("code", "")
    return code


def answer(client: httpx.Client, model: str) -> str:
    """Return what the model says, or the code of the refusal."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    told = client.post("/v1/chat/completions", json=body).json()
    if "error" in told:
        refused: str = told["error"]["code"]
        return refused
    said: str = told["choices"][0]["message"]["content"]
    return said


def takes_calls(client: httpx.Client, model: str) -> None:
    eventually(lambda: len(answer(client, model).split()) == 5, timeout_seconds=SECONDS)


@pytest.mark.promise("RT-01")
def test_a_deployment_takes_calls_without_a_restart_and_ends_as_fast(
    client: httpx.Client, provider_url: str
) -> None:
    assert answer(client, "my-model") == "model_not_found"
    made = create(client, deployment(provider_url))
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{DEPLOYMENTS}/mine"
    assert (made.json()["priority"], made.json()["weight"]) == (50, 100)
    takes_calls(client, "my-model")
    assert "my-model" in {one["id"] for one in client.get("/v1/models").json()["data"]}
    listed = {one["name"]: one for one in client.get(DEPLOYMENTS).json()["deployments"]}
    assert not listed["mine"]["operator_owned"]
    assert listed["offline"]["operator_owned"]
    assert listed["sim*"]["base_url"] == ""
    changed = client.patch(f"{DEPLOYMENTS}/mine", json={"disabled": True})
    assert changed.json()["disabled"]
    eventually(lambda: answer(client, "my-model") == "no_deployment", timeout_seconds=SECONDS)
    assert client.delete(f"{DEPLOYMENTS}/mine").status_code == 204
    assert client.delete(f"{DEPLOYMENTS}/mine").status_code == 204
    eventually(lambda: answer(client, "my-model") == "model_not_found", timeout_seconds=SECONDS)


@pytest.mark.promise("RT-02")
def test_what_a_tenant_makes_is_not_there_for_another(
    platform: Platform, client: httpx.Client, provider_url: str
) -> None:
    assert create(client, deployment(provider_url)).status_code == 201
    policy = {"models": ["my-model"], "strategy": "lowest_cost"}
    assert client.put(f"{ROUTING}/policies/mine", json=policy).status_code == 200
    price = {"deployment": "mine", "prompt_million_tokens_micro_usd": 5}
    assert client.post(f"{ROUTING}/prices", json=price).status_code == 201
    takes_calls(client, "my-model")
    with platform.client(new_tenant(platform).api_key) as other:
        assert answer(other, "my-model") == "model_not_found"
        assert code_of(other.get(f"{DEPLOYMENTS}/mine")) == "DEPLOYMENT_NOT_FOUND"
        assert code_of(other.post(f"{ROUTING}/prices", json=price)) == "DEPLOYMENT_NOT_FOUND"
        assert other.get(f"{ROUTING}/policies").json()["policies"] == []
        assert "mine" not in other.get(f"{ROUTING}/prices").text
        assert "mine" not in other.get(DEPLOYMENTS).text
        assert create(other, deployment(provider_url, model="theirs")).status_code == 201
        assert other.delete(f"{DEPLOYMENTS}/mine").status_code == 204
    assert client.get(f"{DEPLOYMENTS}/mine").json()["model"] == "my-model"


@pytest.mark.promise("RT-03")
def test_keys_and_calls_go_where_the_operator_lets_them(
    client: httpx.Client, provider_url: str
) -> None:
    for fields, code in (
        ({"base_url": "https://api.openai.com/v1"}, "PROVIDER_CREDENTIALS"),
        ({"credential_name": "another"}, "PROVIDER_CREDENTIALS"),
        ({"base_url": "https://example.com/v1"}, "EGRESS_REFUSED"),
        ({"base_url": "http://169.254.169.254/"}, "EGRESS_REFUSED"),
        ({"base_url": "http://127.0.0.1:1/v1", "credential_name": ""}, "EGRESS_REFUSED"),
        ({"provider": "langchain"}, "INVALID_ARGUMENT"),
    ):
        refused = create(client, deployment(provider_url, **fields))
        assert code_of(refused) == code, refused.text
    assert create(client, deployment(provider_url)).status_code == 201
    moved = client.patch(f"{DEPLOYMENTS}/mine", json={"base_url": "https://api.openai.com/v1"})
    assert code_of(moved) == "PROVIDER_CREDENTIALS"


@pytest.mark.promise("RT-04")
def test_a_call_costs_what_was_in_force_when_it_began(
    client: httpx.Client, provider_url: str
) -> None:
    assert create(client, deployment(provider_url)).status_code == 201
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for amount, moment in ((1_000_000, None), (9_000_000, tomorrow)):
        body = {
            "deployment": "mine",
            "completion_million_tokens_micro_usd": amount,
            "effective_time": moment,
        }
        assert client.post(f"{ROUTING}/prices", json=body).status_code == 201

    def costs() -> int:
        takes_calls(client, "my-model")
        report = client.get("/api/v1/usage", params={"group_by": "model"}).json()
        return sum(one["usage"]["cost_micro_usd"] for one in report["sums"])

    # Five tokens for a dollar a million.
    eventually(lambda: costs() > 0)
    assert costs() % 5 == 0
    yesterday = {"deployment": "mine", "effective_time": "2020-01-01T00:00:00Z"}
    assert code_of(client.post(f"{ROUTING}/prices", json=yesterday)) == "INVALID_ARGUMENT"
    own = client.get(f"{ROUTING}/prices", params={"deployment": "mine"}).json()["prices"]
    amounts = [one["completion_million_tokens_micro_usd"] for one in own]
    assert amounts == [9_000_000, 1_000_000]
    assert client.delete(f"{DEPLOYMENTS}/mine").status_code == 204
    kept = client.get(f"{ROUTING}/prices", params={"deployment": "mine"}).json()["prices"]
    assert kept == own


@pytest.mark.promise("RT-05")
def test_a_change_wants_the_etag_and_a_repeated_request_makes_one(
    client: httpx.Client, provider_url: str
) -> None:
    body = deployment(provider_url)
    key = new_id()
    first = create(client, body, key)
    assert create(client, body, key).json() == first.json()
    assert code_of(create(client, body | {"weight": 7}, key)) == "IDEMPOTENCY_KEY_REUSED"
    assert code_of(create(client, body)) == "ALREADY_EXISTS"
    etag = first.json()["etag"]
    path = f"{DEPLOYMENTS}/mine"
    assert client.patch(path, json={"weight": 7, "etag": etag}).json()["weight"] == 7
    assert code_of(client.patch(path, json={"weight": 8, "etag": etag})) == "CONFLICT"
    assert client.patch(path, json={"weight": 9}).json()["weight"] == 9


@pytest.mark.promise("RT-08")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_the_commands_show_and_change_what_there_is(
    platform: Platform, tenant: NewTenant, client: httpx.Client, provider_url: str
) -> None:
    environment = {"MESHWRIGHT_URL": platform.url, "MESHWRIGHT_API_KEY": tenant.api_key}

    def routes(*arguments: str) -> str:
        done = run_command("routes", *arguments, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("--model", "my-model", "--provider-model", "sim-n5", "--credential", "main")
    assert routes("add", "mine", *options, "--base-url", f"{provider_url}/v1") == "mine\n"
    takes_calls(client, "my-model")
    shown = {one["name"]: one for one in json.loads(routes("deployments", "--json"))}
    assert shown["mine"]["provider_model"] == "sim-n5"
    routes("set-price", "mine", "--input", "0.25", "--output", "2")
    (price,) = json.loads(routes("prices", "--deployment", "mine", "--json"))
    assert price["prompt_million_tokens_micro_usd"] == 250_000
    routes("set-policy", "cheap", "--model", "my-model", "--strategy", "lowest_cost")
    assert "lowest_cost" in routes("policies")
    routes("remove-policy", "cheap")
    routes("disable", "mine")
    assert "disabled" in routes("deployments", "--model", "my-model")
    routes("remove", "mine")
    assert json.loads(routes("deployments", "--model", "my-model", "--json")) == []
    refused = run_command("routes", "remove", "offline", environment=environment)
    assert "operator" in refused.stderr
