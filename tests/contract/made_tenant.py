"""A tenant that a test makes, limits and suspends, as its operator does."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Final

import httpx

from meshwright.session.v1 import tenant_pb2
from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests import operator
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant

SESSIONS: Final = "/api/v1/sessions"
ACTS_SECONDS: Final = 5.0
"""When a new call has to notice."""


@dataclass(frozen=True, slots=True)
class Made:
    """A tenant of a platform, with its owner."""

    platform: Platform
    tenant_id: str
    owner_id: str
    api_key: str

    def client(self, key: str = "") -> httpx.Client:
        """Return a client with the owner's key, or another one."""
        return self.platform.client(key or self.api_key)

    def agree(self, **limits: int) -> None:
        """Agree limits with the tenant."""
        operator.agree(self.platform, self.tenant_id, **limits)

    def allow_models(self, *names: str) -> None:
        """Agree which models the tenant may use."""
        operator.allow_models(self.platform, self.tenant_id, *names)

    def suspend(self, *, suspended: bool = True) -> None:
        """Suspend the tenant, or resume it."""
        operator.suspend(self.platform, self.tenant_id, suspended=suspended)

    def on_command_line(self, *words: str) -> Any:
        """Do something with the tenant on the command line, and return the JSON."""
        command, *rest = words
        return operate(self.platform, "tenants", command, self.tenant_id, *rest)

    def member(self, client: httpx.Client, *roles: str) -> tuple[str, str]:
        """Make a user with roles; return its id and a key."""
        body = {"name": f"user-{new_id()}", "roles": list(roles or ("member",))}
        user_id = str(client.post("/api/v1/users", json=body).json()["user_id"])
        key = client.post("/api/v1/api-keys", json={"user_id": user_id}).json()["secret"]
        return user_id, str(key)


def run(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator."""
    return run_command(*words, "--data", str(platform.data), environment=dict(platform.environment))


def operate(platform: Platform, *words: str) -> Any:
    """Run a command of the operator, and return what it says as JSON."""
    done = run(platform, *words, "--json")
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)


def starter(platform: Platform) -> Made:
    """Make a tenant of the starter plan."""
    made = new_tenant(platform, tenant_pb2.PLAN_STARTER)
    return Made(platform, made.tenant_id, made.user_id, made.api_key)


def is_allowed(client: httpx.Client, model: str) -> bool:
    """Return whether the tenant may use a model now."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return client.post("/v1/chat/completions", json=body).status_code == 200


def is_refused(client: httpx.Client, status: int, path: str = SESSIONS) -> bool:
    return client.get(path).status_code == status
