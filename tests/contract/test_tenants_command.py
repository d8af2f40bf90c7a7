"""`meshwright tenants`, `users` and `api-keys`, on a running platform."""

from __future__ import annotations

from typing import Any

import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.contract.made_tenant import (
    ACTS_SECONDS,
    SESSIONS,
    Made,
    is_allowed,
    is_refused,
    operate,
    run,
    starter,
)
from tests.platform_process import Platform


@pytest.mark.promise("PLAN-11")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_an_operator_handles_tenants_users_and_keys_on_the_command_line(
    platform: Platform,
) -> None:
    """The same commands make the same calls elsewhere: one of them is tried there, below."""
    slug = f"plan-{new_id()}"
    told = operate(platform, "tenants", "create", slug, "--owner", "grace")
    tenant = Made(platform, told["tenant_id"], told["owner_id"], told["api_key"])
    assert slug in {one["slug"] for one in operate(platform, "tenants", "list")}
    changed = tenant.on_command_line(
        *("update", "--plan", "professional", "--name", "Acme", "--sessions", "7"),
        *("--documents", "unlimited", "--models", "a*,b"),
    )
    assert {"sessions": 7, "documents": 0, "allowed_models": ["a*", "b"]} == changed["agreed"]
    changed = tenant.on_command_line("update", "--documents", "plan", "--models", "plan")
    assert {"sessions": 7} == changed["agreed"]
    shown = operate(platform, "tenants", "show", slug)
    assert ("professional", "active", "Acme") == (
        shown["plan"],
        shown["state"],
        shown["display_name"],
    )
    assert {"limit": 7, "used": 0} == tenant.on_command_line("quota")["sessions"]
    with tenant.client() as client:
        assert is_allowed(client, "offline")
        eventually(lambda: bool(client.get("/api/v1/usage").json()["sums"][0]["call_count"]))
        assert "offline" in {one["model"] for one in tenant.on_command_line("usage")}
        assert "suspended" == tenant.on_command_line("suspend", "--yes")["state"]
        eventually(lambda: is_refused(client, 403), timeout_seconds=ACTS_SECONDS)
        assert "active" == tenant.on_command_line("resume")["state"]

    def users(*words: str) -> Any:
        command, *rest = words
        return operate(platform, "users", command, slug, *rest)

    users("create", "ada", "member")
    assert ["owner", "viewer"] == users("roles", "ada", "owner", "viewer")["roles"]
    key = operate(platform, "api-keys", "create", slug, "ada")
    with tenant.client(key["secret"]) as ada:
        assert 200 == ada.get(SESSIONS).status_code
        revoked = run(platform, "api-keys", "revoke", slug, key["api_key_id"])
        assert Exit.OK == revoked.returncode, revoked.stderr
        eventually(lambda: is_refused(ada, 401), timeout_seconds=ACTS_SECONDS)
    assert users("disable", "ada")["disabled"]
    assert {"grace": False, "ada": True} == {one["name"]: one["disabled"] for one in users("list")}
    assert "concurrent turns" in run(platform, "tenants", "quota", slug).stdout


@pytest.mark.promise("PLAN-11")
def test_an_operator_reaches_every_arrangement_and_what_is_wrong_is_named(
    platform: Platform,
) -> None:
    tenant = starter(platform)
    assert "starter" == tenant.on_command_line("quota")["plan"]
    if tenant.platform.split:
        return
    for words, exit_code, named in (
        (("update", tenant.tenant_id, "--models", "a b"), Exit.REFUSED, "allowed_models.names[0]"),
        (("move", tenant.tenant_id, "--own-schema"), Exit.REFUSED, "enterprise"),
        (("show", "nobody"), Exit.FAILED, "'nobody'"),
    ):
        done = run(tenant.platform, "tenants", *words)
        assert exit_code == done.returncode, done.stderr
        assert named in done.stderr
