"""Bad input over HTTP: each a clear error that names the field or the limit, nothing half-done."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pypdf
import pytest

from meshwright_common.ids import new_id
from tests.asking import DOCUMENTS, ask, ended, indexed, turn_id_of, upload
from tests.platform_process import Platform
from tests.tenants import new_tenant

MIB = 1024 * 1024
ENCRYPTED = "encrypted.pdf"


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


@pytest.mark.promise("BAD-01")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "Hello", "mesage": "x"}, "mesage"),
        ({"message": 7}, "message"),
        ({"message": ""}, "message"),
        ({}, "message"),
        ({"message": "Hello", "stream": "yes"}, "stream"),
        ({"message": "Hello", "session_id": "not-a-uuid"}, "session_id"),
        ({"message": "x" * (256 * 1024 + 1)}, "message"),
        ({"message": "Hello", "metadata": {"big": "x" * 17_000}}, "metadata"),
    ],
)
def test_a_wrong_field_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = client.post("/api/v1/chat", json=body)
    assert answer.status_code in (400, 422)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "INVALID_ARGUMENT"
    assert [error["field"].partition(".")[0] for error in problem["errors"]] == [field]
    assert client.get("/api/v1/sessions").json()["sessions"] == []


@pytest.mark.promise("BAD-01")
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"message":"\xff"}', 400),
        (b'{"message":"a","message":"b"}', 422),
        (json.dumps({"message": "x" * MIB}).encode(), 413),
    ],
)
def test_a_body_that_is_no_json_object_or_too_long_is_refused(
    client: httpx.Client, content: bytes, status: int
) -> None:
    answer = client.post(
        "/api/v1/chat", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["code"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    if status == 413:
        assert str(MIB) in answer.text


@pytest.mark.promise("BAD-02")
@pytest.mark.parametrize("key", ["", "mw_wrong", "mw_" + "A" * 43 + "_0000000"])
def test_without_a_good_key_nothing_answers(platform: Platform, key: str) -> None:
    with platform.client(key) as stranger:
        for method, path in (
            ("GET", "/api/v1/sessions"),
            ("POST", "/api/v1/chat"),
            ("GET", "/v1/models"),
            ("GET", "/api/v1/nothing-here"),
        ):
            answer = stranger.request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.promise("BAD-03")
def test_ids_of_another_tenant_answer_as_absent_ids(platform: Platform) -> None:
    with (
        platform.client(new_tenant(platform).api_key) as owner,
        platform.client(new_tenant(platform).api_key) as other,
    ):
        seen = ask(owner, "Hello", model="sim-n2", agent="chat")
        turn = owner.get(f"/api/v1/turns/{turn_id_of(seen)}").json()
        document = indexed(owner, "note.txt", b"The password of the lamp is sesame.")
        owned = {
            "sessions": turn["session_id"],
            "turns": turn["turn_id"],
            "tasks": turn["task_id"],
            "documents": document["document_id"],
            "knowledge-bases": document["knowledge_base_id"],
        }
        for kind, identifier in owned.items():
            assert owner.get(f"/api/v1/{kind}/{identifier}").status_code == 200, kind
            foreign, absent = (shape(other, kind, one) for one in (identifier, new_id()))
            assert foreign == absent, kind
            assert foreign[0] == 404
        for path in ("cancel", "events"):
            method = "POST" if path == "cancel" else "GET"
            answer = other.request(method, f"/api/v1/turns/{turn['turn_id']}/{path}")
            assert answer.status_code == 404
        spoken = other.post(
            "/api/v1/chat", json={"message": "Hello", "session_id": turn["session_id"]}
        )
        assert (spoken.status_code, spoken.json()["code"]) == (404, "SESSION_NOT_FOUND")
        found = other.post("/api/v1/search", json={"query": "password of the lamp"}).json()
        assert found["passages"] == []
        assert other.get("/api/v1/sessions").json()["sessions"] == []


def shape(client: httpx.Client, kind: str, identifier: str) -> tuple[int, str]:
    """Return what the answer for an id tells, without the id itself and the request's own."""
    answer = client.get(f"/api/v1/{kind}/{identifier}")
    text = answer.text.replace(identifier, "ID")
    return answer.status_code, text.replace(answer.json()["request_id"], "REQUEST")


@pytest.mark.promise("BAD-04")
def test_an_unknown_session_agent_or_path_is_not_found(client: httpx.Client) -> None:
    absent = {"message": "Hello", "session_id": new_id()}
    answer = client.post("/api/v1/chat", json=absent)
    assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")
    answer = client.post("/api/v1/chat", json={"message": "Hello", "agent": "nobody"})
    assert answer.status_code == 404 or "AGENT_NOT_FOUND" in answer.text
    assert client.get("/api/v1/nothing").json()["code"] == "NOT_FOUND"
    refused = client.delete("/api/v1/chat")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


@pytest.mark.promise("BAD-05")
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("broken.pdf", b"%PDF-1.7\n1 0 obj << /Type /Catalog", "DOCUMENT_BROKEN"),
        ("zip.docx", b"PK\x03\x04 not really", "DOCUMENT_BROKEN"),
    ],
)
def test_a_broken_document_is_failed_with_its_reason(
    client: httpx.Client, name: str, content: bytes, reason: str
) -> None:
    document = indexed(client, name, content)
    assert (document["state"], document["failure_reason"]) == ("failed", reason)
    assert document["failure_message"]


@pytest.mark.promise("BAD-05")
def test_an_encrypted_pdf_is_failed_and_says_so(client: httpx.Client) -> None:
    document = indexed(client, ENCRYPTED, encrypted_pdf())
    assert (document["state"], document["failure_reason"]) == ("failed", "DOCUMENT_ENCRYPTED")


@pytest.mark.promise("BAD-05")
@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("empty.txt", b"", 422, "DOCUMENT_EMPTY"),
        ("program.bin", b"\x7fELF\x02\x01\x01" + bytes(64), 415, "DOCUMENT_TYPE_UNSUPPORTED"),
    ],
)
def test_a_file_that_is_no_document_is_refused_at_once(
    client: httpx.Client, name: str, content: bytes, status: int, reason: str
) -> None:
    answer = client.post(DOCUMENTS, files={"file": (name, content)})
    assert (answer.status_code, answer.json()["code"]) == (status, reason)
    assert client.get(DOCUMENTS).json()["documents"] == []


@pytest.mark.promise("BAD-06")
def test_a_file_of_50_mib_and_a_byte_is_refused_and_leaves_nothing(client: httpx.Client) -> None:
    content = b"line of text\n" * (50 * MIB // 13) + b"x" * (50 * MIB % 13 + 1)
    assert len(content) == 50 * MIB + 1
    answer = client.post(DOCUMENTS, files={"file": ("long.txt", content)})
    assert (answer.status_code, answer.json()["code"]) == (413, "DOCUMENT_TOO_LARGE")
    assert str(50 * MIB) in answer.text
    assert client.get(DOCUMENTS).json()["documents"] == []


@pytest.mark.promise("BAD-06")
def test_the_same_upload_twice_is_one_document(client: httpx.Client) -> None:
    first = upload(client, "note.txt", b"Once.")
    assert ended(client, first["document_id"])["state"] == "ready"
    answer = client.post(DOCUMENTS, files={"file": ("note.txt", b"Once.")}).json()
    assert answer["duplicate"] is True
    assert answer["document"]["document_id"] == first["document_id"]


def encrypted_pdf() -> bytes:
    """Return a PDF of one page that opens with a password only."""
    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    writer.encrypt("secret", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
