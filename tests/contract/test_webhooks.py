"""Servers of a tenant that are told what happens, through the public API of a running platform."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from standardwebhooks import Webhook

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant
from tests.webhook_receiver import WebhookReceiver

PATH: Final = "/api/v1/webhooks"


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


def create(client: httpx.Client, url: str, *event_types: str) -> dict[str, Any]:
    """Make a webhook."""
    made = client.post(PATH, json={"url": url, "event_types": event_types})
    assert made.status_code == 201, made.text
    webhook: dict[str, Any] = made.json()
    return webhook


def run_task(client: httpx.Client) -> str:
    """Hand in a task; return its id."""
    body = {"agent": "chat", "message": "Count.", "model": "sim-n2"}
    return str(client.post("/api/v1/tasks", json=body).json()["task_id"])


def deliveries(client: httpx.Client, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deliveries of a webhook, newest first."""
    found: list[dict[str, Any]] = client.get(f"{PATH}/{webhook['webhook_id']}/deliveries").json()[
        "deliveries"
    ]
    return found


def settled(client: httpx.Client, webhook: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """Return the deliveries when there are so many and none is pending."""

    def are() -> bool:
        found = deliveries(client, webhook)
        return len(found) == count and all(one["state"] != "pending" for one in found)

    eventually(are, timeout_seconds=30)
    return deliveries(client, webhook)


@pytest.mark.promise("HOOK-01")
def test_the_end_of_a_task_is_delivered_once_and_verified(
    client: httpx.Client, webhook_receiver: WebhookReceiver
) -> None:
    names = [f"{new_id()}-{number}" for number in range(2)]
    hooks = [create(client, webhook_receiver.url(name), "task.*") for name in names]
    task_id = run_task(client)
    for name, hook in zip(names, hooks, strict=True):
        (delivery,) = settled(client, hook)
        (received,) = webhook_receiver.at(name)
        content = Webhook(hook["secret"]).verify(received.body, received.headers)
        assert (content["type"], content["data"]["task_id"]) == ("task.completed", task_id)
        assert delivery["message_id"] == received.headers["webhook-id"]
        assert delivery["state"] == "delivered"


@pytest.mark.promise("HOOK-02")
def test_a_failing_server_is_told_again_with_the_same_id(
    client: httpx.Client, webhook_receiver: WebhookReceiver
) -> None:
    name = new_id()
    webhook_receiver.statuses[name] = [500, 503]
    hook = create(client, webhook_receiver.url(name))
    client.post(f"{PATH}/{hook['webhook_id']}/test")
    (delivery,) = settled(client, hook)
    again = client.post(f"/api/v1/webhook-deliveries/{delivery['delivery_id']}/redeliver")
    eventually(lambda: len(webhook_receiver.at(name)) == 4)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)
    assert again.status_code == 202
    assert {one.headers["webhook-id"] for one in webhook_receiver.at(name)} == {
        delivery["message_id"]
    }


@pytest.mark.promise("HOOK-03")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_addresses_that_are_not_public_are_refused(client: httpx.Client) -> None:
    for host in ("10.0.0.1", "127.0.0.1", "[::1]", "169.254.169.254"):
        refused = client.post(PATH, json={"url": f"https://{host}/hook"})
        assert (refused.status_code, refused.json()["code"]) == (403, "EGRESS_REFUSED"), host


@pytest.mark.promise("HOOK-04")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_both_secrets_sign_while_one_replaces_the_other(
    client: httpx.Client, webhook_receiver: WebhookReceiver
) -> None:
    name = new_id()
    hook = create(client, webhook_receiver.url(name))
    path = f"{PATH}/{hook['webhook_id']}"
    rotated = client.post(f"{path}/secret", json={"overlap_seconds": 60}).json()
    client.post(f"{path}/test")
    settled(client, hook)
    (received,) = webhook_receiver.at(name)
    for secret in (hook["secret"], rotated["secret"]):
        Webhook(secret).verify(received.body, received.headers)
    assert rotated["previous_secret_expire_time"] is not None
    assert "secret" not in client.get(path).json()


@pytest.mark.promise("HOOK-05")
def test_a_webhook_hears_of_its_own_tenant_and_filter_alone(
    platform: Platform, client: httpx.Client, webhook_receiver: WebhookReceiver
) -> None:
    mine, filtered, foreign = (new_id() for _ in range(3))
    hook = create(client, webhook_receiver.url(mine))
    create(client, webhook_receiver.url(filtered), "document.*")
    with platform.client(new_tenant(platform).api_key) as other:
        create(other, webhook_receiver.url(foreign))
        hidden = other.get(f"{PATH}/{hook['webhook_id']}")
    run_task(client)
    settled(client, hook)
    assert hidden.status_code == 404
    assert (webhook_receiver.at(filtered), webhook_receiver.at(foreign)) == ([], [])


@pytest.mark.promise("HOOK-06")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_an_address_that_is_gone_is_told_nothing_more(
    client: httpx.Client, webhook_receiver: WebhookReceiver
) -> None:
    name = new_id()
    webhook_receiver.statuses[name] = [410]
    hook = create(client, webhook_receiver.url(name))
    client.post(f"{PATH}/{hook['webhook_id']}/test")
    settled(client, hook)
    found = client.get(f"{PATH}/{hook['webhook_id']}").json()
    assert (found["disabled"], found["disabled_reason"]) == (True, "GONE")

    def kinds() -> list[str]:
        told = client.get("/api/v1/notifications").json()["notifications"]
        return [one["kind"] for one in told]

    eventually(lambda: "webhook.disabled" in kinds())


@pytest.mark.promise("HOOK-07")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_webhooks_by_command(platform: Platform, webhook_receiver: WebhookReceiver) -> None:
    api_key = new_tenant(platform).api_key
    name = new_id()

    def webhooks(*words: str) -> subprocess.CompletedProcess[str]:
        return run_command("webhooks", *words, "--url", platform.url, "--key", api_key)

    made = webhooks("create", webhook_receiver.url(name), "--event", "task.*")
    assert made.returncode == Exit.OK, made.stderr
    webhook_id, secret = made.stdout.split()
    sent = webhooks("test", webhook_id)
    eventually(lambda: len(webhook_receiver.at(name)) == 1)
    (received,) = webhook_receiver.at(name)
    shown = json.loads(webhooks("deliveries", webhook_id, "--json").stdout)
    disabled = webhooks("disable", webhook_id).stdout
    listed = webhooks("list").stdout
    deleted = webhooks("delete", webhook_id).stdout
    assert Webhook(secret).verify(received.body, received.headers)["type"] == "webhook.test"
    assert [one["delivery_id"] for one in shown] == [sent.stdout.strip()]
    assert (disabled, deleted) == ("disabled\n", "deleted\n")
    assert "disabled (by hand)" in listed
