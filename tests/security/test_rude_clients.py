"""Clients that are slow, leave in the middle, never read, or come in crowds (S-37c, F-48, F-49)."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import DOCUMENTS, ask, eventually, follow, indexed, turn_id_of
from tests.platform_process import Platform
from tests.security.memory import resident_bytes
from tests.security.rows import uploaded_objects
from tests.sse import text_of
from tests.tenants import new_tenant

MIB: Final = 1024 * 1024
LONG: Final = "sim-tps50-n300"
"""An answer of 300 pieces in some six seconds."""


@pytest.fixture
def api_key(platform: Platform) -> str:
    return new_tenant(platform).api_key


def connect(platform: Platform, *, receive_buffer: int = 0) -> socket.socket:
    address = urlsplit(platform.url)
    assert address.hostname
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    opened.settimeout(20)
    opened.connect((address.hostname, address.port))
    return opened


def post(api_key: str, path: str, body: bytes, *more: str, length: int | None = None) -> bytes:
    """Return a request as it goes over the wire; `length` may promise more than there is."""
    head = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {api_key}",
        f"content-length: {len(body) if length is None else length}",
        *(more or ("content-type: application/json",)),
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def newest_turn(client: httpx.Client) -> dict[str, object]:
    """Return the latest turn of the caller's only session, once there is one."""
    found: list[dict[str, object]] = []

    def is_there() -> bool:
        sessions = client.get("/api/v1/sessions").json()["sessions"]
        if sessions:
            path = f"/api/v1/sessions/{sessions[0]['session_id']}/turns"
            found[:] = client.get(path).json()["turns"]
        return bool(found)

    eventually(is_there)
    return found[0]


def state_of(client: httpx.Client, turn_id: object) -> str:
    return str(client.get(f"/api/v1/turns/{turn_id}").json()["state"])


@pytest.mark.promise("RUDE-01")
def test_a_turn_whose_client_never_reads_or_leaves_is_completed_and_kept(
    platform: Platform, api_key: str
) -> None:
    body = b'{"message":"Hello","agent":"chat","model":"sim-tps50-n40"}'
    with platform.client(api_key) as client:
        with connect(platform, receive_buffer=2048) as deaf:
            deaf.sendall(post(api_key, "/api/v1/chat", body))
            turn_id = newest_turn(client)["turn_id"]
        eventually(lambda: state_of(client, turn_id) == "completed")
        seen = follow(client, str(turn_id), "")
        assert text_of(seen) == seen[-1].data["answer"] != ""


@pytest.mark.promise("RUDE-01")
def test_a_turn_whose_client_leaves_is_cancelled_if_it_asked_for_that(
    platform: Platform, api_key: str
) -> None:
    body = b'{"message":"Hello","agent":"chat","model":"%s","on_disconnect":"cancel"}'
    with platform.client(api_key) as client:
        with connect(platform) as leaving:
            leaving.sendall(post(api_key, "/api/v1/chat", body % LONG.encode()))
            assert leaving.recv(1000)
            turn_id = newest_turn(client)["turn_id"]
        eventually(lambda: state_of(client, turn_id) == "cancelled")


@pytest.mark.promise("RUDE-02")
def test_an_upload_that_breaks_off_leaves_nothing(platform: Platform, api_key: str) -> None:
    objects = uploaded_objects(platform)
    start = (
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="half.txt"\r\n\r\n'
        # More than a part of an upload to S3, which is not seen there before.
        + b"half of a line\n" * 650_000
    )
    form = "content-type: multipart/form-data; boundary=b"
    with platform.client(api_key) as client:
        for _ in range(3):
            with connect(platform) as leaving:
                leaving.sendall(post(api_key, DOCUMENTS, start, form, length=20 * MIB))
                eventually(lambda: uploaded_objects(platform) != objects)
        eventually(lambda: uploaded_objects(platform) == objects)
        assert client.get(DOCUMENTS).json()["documents"] == []


@pytest.mark.promise("RUDE-03")
def test_a_crowd_of_silent_and_half_spoken_connections_keeps_nobody_waiting(
    platform: Platform, api_key: str
) -> None:
    before = resident_bytes(platform)
    with ExitStack() as crowd, platform.client(api_key) as client:
        for number in range(300):
            silent = crowd.enter_context(connect(platform))
            if number % 3 == 1:
                silent.sendall(b"GET /api/v1/me HTTP/1.1\r\nhost: x\r\nx-slow: ")
            elif number % 3 == 2:
                silent.sendall(post(api_key, "/api/v1/chat", b"{", length=1000))
        began = time.monotonic()
        assert ask(client, "Hello", agent="chat")[-1].name == "turn.completed"
        # What waits for the silent ones waits for 10 s.
        assert time.monotonic() - began < 8
    assert resident_bytes(platform) - before < 40 * MIB


@pytest.mark.promise("RUDE-04")
def test_many_uploads_at_once_are_each_stored_once(platform: Platform, api_key: str) -> None:
    content = b"A line of some document.\n" * 80_000
    with platform.client(api_key) as client:
        # The first document loads the clients of the stores, which stay.
        assert indexed(client, "first.txt", b"A line of the first document.\n")["state"] == "ready"
        before = resident_bytes(platform)

        def upload(number: int) -> int:
            # Half of them are the same file.
            mine = content + (b"" if number % 2 else b"%d" % number)
            return client.post(DOCUMENTS, files={"file": ("a.txt", mine[-MIB:])}).status_code

        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(upload, range(32)))
        assert statuses == [202] * 32
        documents = client.get(DOCUMENTS, params={"page_size": 100}).json()["documents"]
        assert len(documents) >= 1
        for document in documents:
            client.delete(f"/api/v1/documents/{document['document_id']}")
    # Whoever parses a document does so in a process of its own, which goes when it is done.
    eventually(lambda: resident_bytes(platform) - before < 60 * MIB)


@pytest.mark.promise("RUDE-05")
@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_key_that_ends_opens_nothing_five_seconds_later(
    platform: Platform, api_key: str, end: str
) -> None:
    with platform.client(api_key) as owner:
        body = {"label": "short"}
        if end == "expired":
            in_two = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
            body["expire_time"] = in_two
        made = owner.post("/api/v1/api-keys", json=body).json()
        with platform.client(made["secret"]) as client:
            assert client.get("/api/v1/me").status_code == 200
            if end == "revoked":
                path = f"/api/v1/api-keys/{made['api_key']['api_key_id']}"
                assert owner.delete(path).status_code == 200
            began = time.monotonic()
            eventually(lambda: client.get("/api/v1/me").status_code == 401)
            # Five seconds, and what a busy machine takes.
            assert time.monotonic() - began < 10
            refused = client.get("/api/v1/me").json()
        with platform.client("mw_" + "A" * 43 + "_0000000") as nobody:
            unknown = nobody.get("/api/v1/me").json()
    assert refused["detail"] == unknown["detail"]


@pytest.mark.promise("RUDE-06")
def test_a_cursor_of_another_turn_or_beyond_the_end_is_refused(
    platform: Platform, api_key: str
) -> None:
    with platform.client(api_key) as client:
        seen = ask(client, "Hello", agent="chat")
        turn_id = turn_id_of(seen)
        path = f"/api/v1/turns/{turn_id}/events"
        cursors = ("x", f"{new_id()}:1", f"{turn_id}:-1", f"{turn_id}:99999", f"{turn_id}:1e3")
        for cursor in (*cursors, f"{turn_id}:{'9' * 18}", "\u00ff"):
            answer = client.get(path, headers=[(b"last-event-id", cursor.encode("latin-1"))])
            assert (answer.status_code, answer.json()["code"]) == (410, "CURSOR_EXPIRED"), cursor
            assert client.get(path, params={"last_event_id": cursor}).status_code == 410
        assert client.get(path, headers={"last-event-id": seen[-1].id}).status_code == 204


@pytest.mark.promise("RUDE-06")
def test_an_idempotency_key_is_for_one_body_and_one_user(platform: Platform, api_key: str) -> None:
    headers = {"idempotency-key": "once"}
    with platform.client(api_key) as client, platform.client(new_tenant(platform).api_key) as other:
        for path, body, name in (
            ("/api/v1/chat", {"message": "Hello", "agent": "chat"}, "message"),
            ("/api/v1/sessions", {"title": "Hello"}, "title"),
            ("/api/v1/users", {"name": "hello"}, "name"),
            ("/api/v1/knowledge-bases", {"name": "hello"}, "name"),
        ):
            assert client.post(path, json=body, headers=headers).status_code < 300
            changed = {**body, name: "other"}
            answer = client.post(path, json=changed, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
            assert other.post(path, json=changed, headers=headers).status_code < 300
        titles = [one["title"] for one in client.get("/api/v1/sessions").json()["sessions"]]
    assert "other" not in titles
