"""A user or a tenant that was erased is in no store any more, and everybody else still is."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from meshwright_common.ids import new_id
from meshwright_common.storage.placement import place_everywhere, schema_of_tenant
from tests.asking import ask, eventually, indexed, turn_id_of
from tests.cache import open_cache
from tests.contract.erasing import (
    erase_user,
    erasure_for_operator,
    followed,
    is_signed,
    objects_of,
    rows,
    search_stores_with,
)
from tests.contract.test_event_schemas import mistakes, schema_of, tail
from tests.platform_process import Platform
from tests.security.canary import keys_with, objects_with, tables_with
from tests.security.rows import owner_settings, rows_of_tenant, stored_objects
from tests.tenants import NewTenant, new_tenant

LOG_TABLES = {
    *("session.audit_records", "session.audit_events", "session.audit_checkpoints"),
    *("events.outbox", "session.audit_anchors", "session.audit_heads"),
}
"""They hold who did what, by ids; of the outbox only what is for the audit, see the tests."""
RECEIPTS = {"session.erasures", "session.erasure_stores"}
AMOUNTS = {
    *("session.usage_ledger", "session.usage_calls", "model_router.model_usage"),
    "session.usage_daily",
}


@dataclass(frozen=True)
class Person:
    """A user with a key, and the ids of one of everything."""

    user_id: str
    api_key: str
    name: str
    ids: dict[str, str]


def person(platform: Platform, owner: httpx.Client, word: str) -> Person:
    """Make a user who has one of everything, each with the word in it."""
    name = f"name-{word}"
    user = owner.post("/api/v1/users", json={"name": name, "email": f"{word}@example.org"}).json()
    key = owner.post(
        "/api/v1/api-keys", json={"user_id": user["user_id"], "label": f"key of {word}"}
    ).json()
    with platform.client(key["secret"]) as client:
        return Person(user["user_id"], key["secret"], name, belongings(client, word))


def belongings(client: httpx.Client, word: str) -> dict[str, str]:
    document = indexed(client, f"{word}.txt", f"The secret of {word} is {new_id()}.".encode())
    turn = client.get(f"/api/v1/turns/{turn_id_of(ask(client, f'I am {word}.', agent='chat'))}")
    archived = client.get(f"/api/v1/turns/{turn_id_of(ask(client, f'Keep {word}.'))}").json()
    answer = client.post(f"/api/v1/sessions/{archived['session_id']}/archive")
    assert answer.status_code < 300, answer.text
    task = client.post("/api/v1/tasks", json={"agent": "chat", "message": f"Do {word}."}).json()
    called = client.post("/api/v1/tools/current_time/execute", json={"arguments": {}})
    assert called.status_code == 200
    memory = {"kind": "fact", "text": f"Is called {word}.", "topic": "user.name"}
    remembered = client.post("/api/v1/memories", json={"memories": [memory]})
    assert remembered.status_code == 201, remembered.text
    eventually(lambda: ended(client, task["task_id"]))
    eventually(lambda: len(client.get("/api/v1/notifications").json()["notifications"]) >= 2)
    return {
        "memory_id": remembered.json()["memories"][0]["memory_id"],
        "document_id": document["document_id"],
        "session_id": turn.json()["session_id"],
        "turn_id": turn.json()["turn_id"],
        "turn_task_id": turn.json()["task_id"],
        "archived_id": archived["session_id"],
        "task_id": task["task_id"],
    }


def ended(client: httpx.Client, task_id: str) -> bool:
    state = client.get(f"/api/v1/tasks/{task_id}").json()["state"]
    return state in {"completed", "failed", "cancelled", "expired"}


def sees(client: httpx.Client, one: Person | dict[str, str], word: str) -> list[str]:
    """Return what a person is told of what they have, but for times of use."""
    ids = one.ids if isinstance(one, Person) else one
    return [
        client.get(f"/api/v1/sessions/{ids['session_id']}/messages").text,
        client.get(f"/api/v1/sessions/{ids['archived_id']}/messages").text,
        client.get(f"/api/v1/documents/{ids['document_id']}").text,
        str(client.get(f"/api/v1/tasks/{ids['task_id']}").json()["result"]),
        str(client.get("/api/v1/notifications").json()),
        str(ids["document_id"] in client.post("/api/v1/search", json={"query": word}).text),
    ]


@pytest.mark.promise("ERASE-01")
@pytest.mark.promise("ERASE-03")
@pytest.mark.promise("ERASE-04")
def test_an_erased_user_is_in_no_store_and_all_others_are(platform: Platform) -> None:
    tenant, other = new_tenant(platform), new_tenant(platform)
    word, theirs = f"quoll{secrets.token_hex(6)}", f"numbat{secrets.token_hex(6)}"
    with platform.client(tenant.api_key) as owner, platform.client(other.api_key) as stranger:
        gone, stays = person(platform, owner, word), person(platform, owner, theirs)
        belongings(stranger, theirs)
        with platform.client(stays.api_key) as colleague:
            before = sees(colleague, stays, theirs)
            elsewhere = resting(platform, other.tenant_id)
            resting(platform, tenant.tenant_id)
            used = amounts(owner)
            begun = erase_user(owner, gone.user_id)
            assert (begun["kind"], begun["subject_id"]) == ("user", gone.user_id)
            with platform.client(gone.api_key) as erased:
                eventually(lambda: erased.get("/api/v1/me").status_code == 401)
            done = followed(owner, begun["erasure_id"], "completed")
            assert amounts(owner) == used
            assert sees(colleague, stays, theirs) == before
        assert owner.get(f"/api/v1/users/{gone.user_id}").status_code == 404
        assert erase_user(owner, gone.user_id)["erasure_id"] == begun["erasure_id"]
    assert resting(platform, other.tenant_id) == elsewhere
    look_for_user(platform, gone, word)
    assert all(one["remaining_count"] == 0 for one in done["stores"])
    removed = {one["store"]: one["removed_count"] for one in done["stores"]}
    for store in (
        "session.memories",
        "session.messages",
        "chat.turns",
        "orchestrator.tasks",
        "objects:archives",
    ):
        assert removed[store] >= 1, store
    check_receipt(platform, done, tenant)


def amounts(owner: httpx.Client) -> list[Any]:
    """Return what the tenant consumed: it is billed, whoever was erased."""
    sums: list[Any] = owner.get("/api/v1/usage", params={"group_by": "model"}).json()["sums"]
    return sums


def look_for_user(platform: Platform, gone: Person, word: str) -> None:
    """Look for a user's id, for the word and for all ids of what was the user's."""
    ids = [gone.user_id.encode(), gone.name.encode(), word.encode()]
    tables = {parent(one) for one in asyncio.run(tables_with(platform, ids))}
    assert tables <= LOG_TABLES | RECEIPTS, tables
    assert keys_with(platform, ids) == set()
    assert asyncio.run(objects_with(platform, ids)) == set()
    made = [one.encode() for one in gone.ids.values()]
    tables = {parent(one) for one in asyncio.run(tables_with(platform, made))}
    assert tables <= LOG_TABLES | AMOUNTS, tables
    fences = f":{gone.ids['turn_id']}:epoch"
    assert {one for one in keys_with(platform, made) if not one.endswith(":epoch")} == set(), fences
    assert search_stores_with(platform, "document_id", gone.ids["document_id"]) == set()
    assert search_stores_with(platform, "user_id", gone.user_id) == set()
    named = "position(convert_to($1, 'UTF8') IN body) > 0 OR partition_key = $1"
    kept = rows(platform, f"SELECT DISTINCT topic FROM events.outbox WHERE {named}", gone.user_id)  # noqa: S608
    assert {row["topic"] for row in kept} <= {"audit.log"}


def parent(table: str) -> str:
    """Return the table that a partition is of."""
    schema, _, name = table.partition(".")
    for known in sorted(LOG_TABLES | AMOUNTS, key=len, reverse=True):
        if name.startswith(f"{known.partition('.')[2]}_") and known.startswith(schema):
            return known
    return table


def check_receipt(platform: Platform, done: dict[str, Any], tenant: NewTenant) -> None:
    """Look at a receipt as whoever was given it would, and for the event that told it."""
    receipt = done["receipt"]
    assert receipt["erasure_id"] == done["erasure_id"]
    assert receipt["tenant_id"] == tenant.tenant_id
    assert {one["store"] for one in receipt["stores"]} == {one["store"] for one in done["stores"]}
    assert any(one["place"] == "topic audit.log" and one["until"] for one in receipt["kept"])
    relayed = "MESHWRIGHT_EVENTS__URL" in platform.environment
    assert any(one["place"] == "topic usage.stats" for one in receipt["kept"]) == relayed
    assert is_signed(platform, receipt)
    assert not is_signed(platform, receipt | {"subject_id": new_id()})
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        told[:] = [
            event
            for event in tail(platform, "audit.log")
            if event["body"]["event_type"] == "erasure.completed"
            and event["body"]["data"]["erasure_id"] == done["erasure_id"]
        ]
        return bool(told)

    eventually(is_told)
    [event] = told
    assert mistakes(schema_of("erasure.completed"), event["body"]) == []
    assert event["body"]["data"] == receipt
    assert event["key"] == tenant.tenant_id


@pytest.mark.promise("ERASE-02")
def test_an_erased_tenant_leaves_a_tombstone_a_log_and_a_receipt(platform: Platform) -> None:
    tenant, other = new_tenant(platform), new_tenant(platform)
    word, theirs = f"quokka{secrets.token_hex(6)}", f"bilby{secrets.token_hex(6)}"
    with platform.client(tenant.api_key) as owner, platform.client(other.api_key) as stranger:
        mine = belongings(owner, word)
        person(platform, owner, word)
        # What it has lies in a schema of its own, and what comes from now on.
        asyncio.run(place_everywhere(owner_settings(platform), tenant.tenant_id))
        others = belongings(stranger, theirs)
        before = sees(stranger, others, theirs)
        elsewhere = resting(platform, other.tenant_id)
        slug = owner.get("/api/v1/tenant").json()["slug"]
        wrong = owner.request("DELETE", "/api/v1/tenant", json={"confirm_slug": "another"})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "confirm_slug")
        answer = owner.request("DELETE", "/api/v1/tenant", json={"confirm_slug": slug})
        assert answer.status_code == 202, answer.text
        erasure_id = answer.json()["erasure_id"]
        eventually(lambda: owner.get("/api/v1/me").status_code in {401, 403})

        def is_completed() -> bool:
            found = erasure_for_operator(platform, tenant.tenant_id, erasure_id)
            return bool(found.receipt_json)

        eventually(is_completed, timeout_seconds=60)
        assert resting(platform, other.tenant_id) == elsewhere
        assert sees(stranger, others, theirs) == before
    done = erasure_for_operator(platform, tenant.tenant_id, erasure_id)
    assert is_signed(platform, json.loads(done.receipt_json))
    look_for_tenant(platform, tenant, [slug, word, *mine.values()])


def look_for_tenant(platform: Platform, tenant: NewTenant, words: list[str]) -> None:
    """Look for a tenant's id, its slug, its word and all ids of what was the tenant's."""
    left = {name for name, (count, _) in resting(platform, tenant.tenant_id).items() if count}
    assert left <= LOG_TABLES | RECEIPTS | {"session.tenants"}, left
    [stone] = rows(platform, "SELECT * FROM session.tenants WHERE tenant_id = $1", tenant.tenant_id)
    assert (stone["slug"], stone["display_name"]) == (
        f"erased-{tenant.tenant_id.replace('-', '')}", "",
    )  # fmt: skip
    assert stone["erase_time"] is not None
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname = $1"
    assert not rows(platform, schemas, schema_of_tenant(tenant.tenant_id))
    keys = (
        "SELECT count(*) FROM encryption.tenant_keys WHERE tenant_id = $1 AND wrapped IS NOT NULL"
    )
    assert rows(platform, keys, tenant.tenant_id)[0]["count"] == 0
    topics = "SELECT DISTINCT topic FROM events.outbox WHERE tenant_id = $1"
    assert {row["topic"] for row in rows(platform, topics, tenant.tenant_id)} <= {"audit.log"}
    found = {parent(one) for one in asyncio.run(tables_with(platform, [w.encode() for w in words]))}
    assert found <= LOG_TABLES, found
    with open_cache(platform) as client:
        assert list(client.scan_iter(match=f"mw:{{{tenant.tenant_id}}}:*", count=1000)) == []
    assert objects_of(stored_objects(platform), tenant.tenant_id) == set()
    assert search_stores_with(platform, "tenant_id", tenant.tenant_id) == set()


def resting(platform: Platform, tenant_id: str) -> dict[str, tuple[int, str]]:
    """Return a tenant's rows by table, when they change no more, but for its data keys.

    Processes count now and then how often those were used.
    """
    seen = asyncio.run(rows_of_tenant(platform, tenant_id))
    return {table: facts for table, facts in seen.items() if table != "encryption.tenant_keys"}


@pytest.mark.promise("ERASE-05")
def test_what_comes_after_the_first_look_is_found_by_the_last(platform: Platform) -> None:
    """A writer whose lease or token was good when the erasure began."""
    tenant = new_tenant(platform)
    word = f"dunnart{secrets.token_hex(6)}"
    with platform.client(tenant.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": word}).json()
        begun = erase_user(owner, user["user_id"])
        followed(owner, begun["erasure_id"], "settling")
        rows(platform, LATE_REQUEST, tenant.tenant_id, user["user_id"], new_id())
        done = followed(owner, begun["erasure_id"], "completed")
    removed = {one["store"]: one["removed_count"] for one in done["stores"]}
    assert removed["session.requests"] == 1
    late = "SELECT count(*) FROM session.requests WHERE tenant_id = $1 AND subject = $2"
    assert rows(platform, late, tenant.tenant_id, user["user_id"])[0]["count"] == 0


LATE_REQUEST = """
INSERT INTO session.requests (tenant_id, subject, operation, request_id, digest, made)
VALUES ($1, $2, 'CreateSession', $3, '', '{}')
"""


@pytest.mark.promise("ERASE-05")
def test_work_that_runs_for_an_erased_user_ends(platform: Platform) -> None:
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": "busy"}).json()
        key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
        with platform.client(key["secret"]) as busy:
            body = {"agent": "chat", "message": "Count.", "model": "sim-n2000-tps20"}
            task = busy.post("/api/v1/tasks", json=body).json()
            eventually(lambda: state_of(busy, task["task_id"]) == "running")
        done = followed(owner, erase_user(owner, user["user_id"])["erasure_id"], "completed")
        assert {one["store"]: one for one in done["stores"]}["orchestrator.tasks"][
            "removed_count"
        ] == 1

        def is_nobodys() -> bool:
            found = owner.get("/api/v1/usage", params={"group_by": "user"}).json()["sums"]
            return {one["user_id"] for one in found} <= {tenant.user_id, "erased"}

        eventually(is_nobodys)


def state_of(client: httpx.Client, task_id: str) -> str:
    return str(client.get(f"/api/v1/tasks/{task_id}").json().get("state"))


@pytest.mark.promise("ERASE-07")
def test_documents_can_stay_without_a_word_of_who_uploaded_them(platform: Platform) -> None:
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": "writer"}).json()
        key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
        with platform.client(key["secret"]) as writer:
            document = indexed(writer, "manual.txt", b"The bandicoot is to be fed at noon.")
        begun = erase_user(owner, user["user_id"], keep_documents="true")
        done = followed(owner, begun["erasure_id"], "completed")
        assert done["keep_documents"] is True
        path = f"/api/v1/documents/{document['document_id']}"
        assert owner.get(path).json()["state"] == "ready"
        found = owner.post("/api/v1/search", json={"query": "bandicoot"}).json()["passages"]
        assert [one["document_id"] for one in found] == [document["document_id"]]
    tables = asyncio.run(tables_with(platform, [user["user_id"].encode()]))
    assert {parent(one) for one in tables} <= LOG_TABLES | RECEIPTS


@pytest.mark.promise("ERASE-08")
def test_who_may_erase_whom(platform: Platform) -> None:
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as owner:
        made = {}
        for role in ("member", "admin"):
            user = owner.post("/api/v1/users", json={"name": role, "roles": [role]}).json()
            key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
            made[role] = (user["user_id"], key["secret"])
        slug = owner.get("/api/v1/tenant").json()["slug"]
        with (
            platform.client(made["member"][1]) as member,
            platform.client(made["admin"][1]) as admin,
        ):
            assert refused(member.delete(f"/api/v1/users/{made['admin'][0]}")) == 403
            assert refused(admin.delete(f"/api/v1/users/{tenant.user_id}")) == 403
            for one in (member, admin):
                answer = one.request("DELETE", "/api/v1/tenant", json={"confirm_slug": slug})
                assert refused(answer) == 403
            last = owner.delete(f"/api/v1/users/{tenant.user_id}")
            assert (refused(last), last.json()["code"]) == (409, "LAST_OWNER")
            assert refused(owner.delete(f"/api/v1/users/{new_id()}")) == 404
            assert refused(owner.get(f"/api/v1/erasures/{new_id()}")) == 404
            assert owner.get("/api/v1/erasures").json()["erasures"] == []
            begun = erase_user(admin, made["member"][0])
            assert [
                one["erasure_id"] for one in admin.get("/api/v1/erasures").json()["erasures"]
            ] == [begun["erasure_id"]]


def refused(answer: httpx.Response) -> int:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code
