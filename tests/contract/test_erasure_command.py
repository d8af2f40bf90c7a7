"""`meshwright erasure`: erases, shows how far it is, and checks a receipt without the platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshwright_common.ids import new_id
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant


@pytest.mark.promise("ERASE-04")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_the_command_erases_shows_and_checks(platform: Platform, tmp_path: Path) -> None:
    tenant = new_tenant(platform)
    access = {"MESHWRIGHT_URL": platform.url, "MESHWRIGHT_API_KEY": tenant.api_key}
    with platform.client(tenant.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": "gone"}).json()

    def erasure(*words: str) -> str:
        done = run_command("erasure", *words, environment=access)
        assert done.returncode == 0, done.stderr
        return done.stdout

    receipt = tmp_path / "receipt.json"
    receipt.write_text(erasure("user", user["user_id"], "--yes", "--wait"))
    erasure_id = json.loads(receipt.read_text())["erasure_id"]
    assert erasure_id in erasure("list")
    assert "session.users" in erasure("status", erasure_id)
    data = ("--data", str(platform.data))
    assert erasure("verify", str(receipt), *data).startswith(f"good: user {user['user_id']}")
    receipt.write_text(receipt.read_text().replace(user["user_id"], new_id()))
    altered = run_command("erasure", "verify", str(receipt), *data, environment=access)
    assert (altered.returncode, "altered" in altered.stderr) == (1, True)
