"""The usage ledger and the audit log of a whole platform: files, comparisons, proofs."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pyarrow import parquet  # type: ignore[import-untyped]

from meshwright_cli.exits import Exit
from meshwright_common.identity.signing import ephemeral_record_signer
from meshwright_common.ids import new_id
from tests.asking import ask, eventually
from tests.platform_process import Platform, run_command
from tests.security.rows import superuser_url
from tests.tenants import NewTenant, new_tenant

CALLS = 3
CHECKPOINT_SECONDS = 30.0
"""A log without any checkpoint gets its first one at the next look."""


_REMOVE = "DELETE FROM usage_ledger WHERE tenant_id = $1 AND event_id = $2"
_CHANGE = (
    "UPDATE usage_ledger SET prompt_tokens = prompt_tokens + $3"
    " WHERE tenant_id = $1 AND event_id = $2"
)
_COPY = (
    "INSERT INTO usage_ledger"
    " SELECT (jsonb_populate_record(l, jsonb_build_object('event_id', $2::text))).*"
    " FROM usage_ledger l WHERE tenant_id = $1 ORDER BY time DESC LIMIT 1"
)
_RENAME = "UPDATE audit_records SET actor = $2 WHERE tenant_id = $1 AND sequence = 2"


@pytest.fixture(scope="module")
def tenant(platform: Platform) -> NewTenant:
    """A tenant that has asked some questions; each is one model call, and all are counted."""
    made = new_tenant(platform)
    with platform.client(made.api_key) as client:
        for number in range(CALLS):
            ask(client, f"Question {number}", agent="chat")
        eventually(lambda: calls(client) >= CALLS)
    return made


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    with platform.client(tenant.api_key) as opened:
        yield opened


def calls(client: httpx.Client) -> int:
    return sum(one["call_count"] for one in client.get("/api/v1/usage").json()["sums"])


def as_superuser(
    platform: Platform, statement: str, tenant_id: str, *values: object
) -> list[asyncpg.Record]:
    """Do what nobody of ours may to the rows of $1; return the rows of the statement."""

    async def do() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(
            superuser_url(platform), server_settings={"search_path": "session, public"}
        )
        try:
            return await connection.fetch(statement, tenant_id, *values)
        finally:
            await connection.close()

    return asyncio.run(do())


def command(platform: Platform, *arguments: str, code: Exit = Exit.OK) -> Any:
    """Run a command of operators with --json; return what it printed."""
    done = run_command(
        *arguments, "--json", "--data", str(platform.data), environment=platform.environment
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.promise("REC-01")
def test_usage_is_summed_by_user_model_and_day_in_any_combination(client: httpx.Client) -> None:
    month = {
        "start_time": (datetime.now(UTC) - timedelta(days=31)).isoformat(),
        "end_time": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    [whole] = client.get("/api/v1/usage", params=month).json()["sums"]
    for groups in (
        *(["day"], ["user"], ["model"], ["day", "user"], ["user", "model"], ["day", "model"]),
        *(["day", "user", "model"], ["day", "user", "model", "feature"]),
    ):
        answer = client.get("/api/v1/usage", params={**month, "group_by": groups}).json()
        sums = answer["sums"]
        assert sum(one["call_count"] for one in sums) == whole["call_count"], groups
        for figure in ("prompt_tokens", "completion_tokens", "cost_micro_usd"):
            assert sum(one["usage"][figure] for one in sums) == whole["usage"][figure], groups
        names = {"day": "day", "user": "user_id", "model": "model", "feature": "feature"}
        for one in sums:
            assert all(bool(one[names[name]]) for name in groups if name != "feature"), groups


@pytest.mark.promise("REC-02")
def test_the_ledger_agrees_with_the_events_until_somebody_changes_it(
    platform: Platform, client: httpx.Client, tenant: NewTenant
) -> None:
    reconcile = ("usage", "reconcile", "--tenant", tenant.tenant_id)
    before = exported(client, "csv")
    agreed = command(platform, *reconcile)
    assert (agreed["agrees"], agreed["events"], agreed["rows"]) == (True, len(before), len(before))
    lost, changed, *_ = [row["event_id"] for row in before]
    as_superuser(platform, _REMOVE, tenant.tenant_id, lost)
    as_superuser(platform, _CHANGE, tenant.tenant_id, changed, 7)
    found = command(platform, *reconcile, code=Exit.FAILED)
    kinds = {one["kind"]: one for one in found["differences"]}
    assert found["counts"] == {"missing": 1, "differs": 1, "sums": 1}
    assert kinds["missing"]["event_id"] == lost
    assert kinds["differs"]["event_id"] == changed
    assert kinds["differs"]["what"].startswith("prompt_tokens")
    repaired = command(platform, *reconcile, "--repair", code=Exit.FAILED)
    assert repaired["repaired"]["calls"] == 1
    assert repaired["counts"] == {"differs": 1}
    as_superuser(platform, _CHANGE, tenant.tenant_id, changed, -7)
    assert command(platform, *reconcile, "--repair")["repaired"] == {"calls": 0, "days": 1}
    assert exported(client, "csv") == before
    eventually(
        lambda: "usage.repaired" in {one["action"] for one in audited(client, "usage.repaired")}
    )


@pytest.mark.promise("REC-02")
def test_calls_that_are_there_twice_or_that_nobody_told_of_are_named(
    platform: Platform, tenant: NewTenant
) -> None:
    reconcile = ("usage", "reconcile", "--tenant", tenant.tenant_id)
    stranger = new_id()
    as_superuser(platform, _COPY, tenant.tenant_id, stranger)
    try:
        found = command(platform, *reconcile, code=Exit.FAILED)
    finally:
        as_superuser(platform, _REMOVE, tenant.tenant_id, stranger)
    assert found["counts"] == {"in the ledger twice": 1, "without event": 1, "sums": 1}
    assert stranger in {one["event_id"] for one in found["differences"]}
    # Nothing is left to do, and nothing is done.
    assert command(platform, *reconcile, "--repair")["repaired"] == {"calls": 0, "days": 0}


def exported(client: httpx.Client, form: str) -> list[dict[str, Any]]:
    """Return the rows of an export."""
    answer = client.get("/api/v1/usage/export", params={"format": form})
    assert answer.status_code == 200
    return rows_of(form, answer.content)


def rows_of(form: str, content: bytes) -> list[dict[str, Any]]:
    if form == "csv":
        return list(csv.DictReader(io.StringIO(content.decode())))
    if form == "parquet":
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(content)).to_pylist()
        return rows
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.promise("REC-03")
def test_an_export_has_the_same_rows_in_every_form_and_by_the_command(
    platform: Platform, client: httpx.Client, tenant: NewTenant, tmp_path: Path
) -> None:
    lines = exported(client, "ndjson")
    assert len(lines) >= CALLS
    assert all(type(row["cost_micro_usd"]) is int for row in lines)
    for form in ("csv", "parquet", "jsonl"):
        rows = exported(client, form)
        assert [ids(row) for row in rows] == [ids(row) for row in lines], form
        file = tmp_path / f"usage.{form}"
        if form == "jsonl":
            continue
        done = run_command(
            *("usage", "export", "--format", form, "-o", str(file)),
            *("--url", platform.url, "--key", tenant.api_key),
        )
        assert done.returncode == Exit.OK, done.stderr
        assert rows_of(form, file.read_bytes()) == rows
    refused = run_command(
        *("usage", "export", "-o", str(tmp_path / "none")), *("--url", platform.url, "--key", "no")
    )
    assert refused.returncode == Exit.FAILED
    assert {one.name for one in tmp_path.iterdir()} == {"usage.csv", "usage.parquet"}


def ids(row: dict[str, Any]) -> Sequence[str]:
    names = ("event_id", "model", "task_id", "step", "prompt_tokens", "cost_micro_usd", "outcome")
    return [str(row[name]) for name in names]


def audited(client: httpx.Client, action: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/audit", params={"action_prefix": action})
    records: list[dict[str, Any]] = answer.json()["records"]
    return records


@pytest.mark.promise("REC-07")
def test_a_log_is_verified_by_call_route_and_command_with_a_key_kept_elsewhere(
    platform: Platform, client: httpx.Client, tenant: NewTenant, tmp_path: Path
) -> None:
    def checkpoints() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = client.get("/api/v1/audit/checkpoints").json()["checkpoints"]
        return listed

    eventually(
        lambda: any(one["stored"] for one in checkpoints()), timeout_seconds=CHECKPOINT_SECONDS
    )
    [key] = client.get("/api/v1/audit/keys").json()["keys"]
    checkpoint = checkpoints()[-1]
    public = load_pem_public_key(key["public_key"].encode())
    public.verify(  # type: ignore[call-arg, union-attr]
        bytes.fromhex(checkpoint["signature"]),
        b"meshwright audit checkpoint v1\n" + checkpoint["document"].encode(),
    )
    verdict = client.get("/api/v1/audit/verify").json()
    assert (verdict["valid"], verdict["first_sequence"]) == (True, 1)
    assert verdict["checkpointed_sequence"] >= 1
    kept = tmp_path / "kept.pem"
    kept.write_text(key["public_key"])
    verify = ("audit", "verify", "--tenant", tenant.tenant_id)
    told = command(platform, *verify, "--public-key", str(kept))
    assert told["tenants"][0]["checkpoint_count"] >= 1
    other = tmp_path / "other.json"
    other.write_text(json.dumps(ephemeral_record_signer().keys.pems()))
    foreign = command(platform, *verify, "--public-key", str(other), code=Exit.FAILED)
    assert "not signed" in foreign["tenants"][0]["problem"]


@pytest.mark.promise("REC-07")
def test_a_changed_record_is_named_by_route_and_command(
    platform: Platform, client: httpx.Client, tenant: NewTenant
) -> None:
    [row] = as_superuser(
        platform,
        "SELECT actor FROM audit_records WHERE tenant_id = $1 AND sequence = 2",
        tenant.tenant_id,
    )
    as_superuser(platform, _RENAME, tenant.tenant_id, "nobody")
    try:
        by_route = client.get("/api/v1/audit/verify").json()
        by_command = command(
            platform, "audit", "verify", "--tenant", tenant.tenant_id, code=Exit.FAILED
        )
    finally:
        as_superuser(platform, _RENAME, tenant.tenant_id, row["actor"])
    [told] = by_command["tenants"]
    assert (by_route["valid"], told["valid"]) == (False, False)
    assert by_route["first_bad_sequence"] == told["first_bad_sequence"] == 2
    assert by_route["problem"] == told["problem"] == "its content does not fit its hash"
    exported_log = run_command(
        *("audit", "export", "--tenant", tenant.tenant_id, "--data", str(platform.data)),
        environment=platform.environment,
    )
    sequences = [json.loads(line)["sequence"] for line in exported_log.stdout.splitlines()]
    assert sequences == [*range(1, len(sequences) + 1)]
    listed = command(platform, "audit", "list", "--tenant", tenant.tenant_id, "--limit", "2")
    assert [one["sequence"] for one in listed] == [sequences[-1], sequences[-2]]


@pytest.mark.promise("REC-08")
def test_refused_logins_and_denied_calls_are_in_the_log_once_for_many_tries(
    platform: Platform,
) -> None:
    made = new_tenant(platform)
    with platform.client(made.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": "curious"}).json()
        key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
        with platform.client(key["secret"]) as member:
            answers = {member.get("/api/v1/audit").status_code for _ in range(20)}
            assert answers == {403}
        key_id = key["api_key"]["api_key_id"]
        owner.delete(f"/api/v1/api-keys/{key_id}").raise_for_status()
        with platform.client(key["secret"]) as member:
            eventually(lambda: member.get("/api/v1/me").status_code == 401)
        eventually(
            lambda: (
                {one["action"] for one in audited(owner, "")}
                >= {"permission.denied", "login.refused"}
            )
        )
        denied = audited(owner, "permission.denied")
        refused = audited(owner, "login.refused")
    assert sum(one["details"]["count"] for one in denied) == 20
    # As many as there are minutes, here seconds, and processes: not one for each try.
    assert len(denied) <= 10
    assert {(one["actor"], one["outcome"]) for one in denied} == {(user["user_id"], "denied")}
    assert {one["details"]["reason"] for one in denied} == {"audit:read"}
    assert {one["resource"] for one in refused} == {f"api_key/{key_id}"}
    with platform.client(f"mw_{'x' * 40}") as nobody:
        assert nobody.get("/api/v1/me").status_code == 401
    listed: list[dict[str, Any]] = []

    def is_listed() -> bool:
        listed[:] = command(
            platform, "audit", "list", "--tenant", "platform", "--action", "login.refused"
        )
        return bool(listed)

    eventually(is_listed)
    assert listed[0]["details"]["address"] == "127.0.0.1"
    assert "mw_" not in str(listed)
