"""Bad input: each a clear error that names the field or the limit, and nothing half-done."""

import time

import orjson
import pytest

from meshwright_common.ids import new_id
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


def chat(**fields: object) -> dict[str, object]:
    """Return the body of a question with other fields."""
    return {"message": "hi", **fields}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (chat(surprise=1), "surprise"),
        (chat(tenant_id=new_id()), "tenant_id"),
        (chat(user_id=new_id()), "user_id"),
        (chat(role="owner"), "role"),
        ({"session_id": new_id()}, "message"),
        ({"message": 5}, "message"),
        ({"message": None}, "message"),
        ({"message": ["hi"]}, "message"),
        ({"message": ""}, "message"),
        ({"message": "x" * (256 * 1024 + 1)}, "message"),
        (chat(stream="yes"), "stream"),
        (chat(stream=1), "stream"),
        (chat(agent=""), "agent"),
        (chat(model="m" * 201), "model"),
        (chat(knowledge_base_ids="default"), "knowledge_base_ids"),
        (chat(knowledge_base_ids=[1]), "knowledge_base_ids.0"),
        (chat(knowledge_base_ids=["a"] * 17), "knowledge_base_ids"),
        (chat(on_disconnect="explode"), "on_disconnect"),
        (chat(concurrency="all"), "concurrency"),
        (chat(metadata=[]), "metadata"),
        (chat(session_id=""), "session_id"),
    ],
)
async def test_a_wrong_field_is_named(platform: Platform, body: object, field: str) -> None:
    answer = await platform.post("/api/v1/chat", body)

    problem = await answer.json()
    assert answer.status == 422
    assert problem["code"] == "INVALID_ARGUMENT"
    assert problem["errors"][0]["field"] == field
    assert field in problem["detail"]
    assert platform.peers.chat.requests == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "not JSON"),
        (b'{"message": NaN}', 400, "not JSON"),
        (b'{"message": "hi", "metadata": {"a": Infinity}}', 400, "not JSON"),
        (b'{"message": "\\ud800"}', 400, "not JSON"),
        (b'{"message": "hi"} x', 400, "not JSON"),
        (b'{"message": "\xff"}', 400, "not UTF-8"),
        (b'{"message": "\xed\xa0\x80"}', 400, "not UTF-8"),
        (b'{"message": "hi", "metadata": {"n": 1' + b"0" * 5000 + b"}}", 400, "not JSON"),
        (b'["message"]', 422, "object"),
        (b'"message"', 422, "object"),
        (b"null", 422, "object"),
        (b'{"message": "hi", "message": "ho"}', 422, "twice"),
        (b'{"message": "a:b", "metadata": {"k": 1, "k": 1}}', 422, "twice"),
        (b'{"message": "a\\u0000b"}', 422, "NUL"),
        (b'{"message": "hi", "metadata": ' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", 422, "64"),
        (b'{"message": "hi", "metadata": ' + b"[" * 2000 + b"]" * 2000 + b"}", 422, "64"),
        (b"[" * 200_000, 422, "64"),
        (
            b'{"message": "hi", "metadata": {'
            + b",".join(b'"k%d":1' % number for number in range(10_001))
            + b"}}",
            422,
            "10000",
        ),
    ],
    ids=[
        *("empty", "cut", "nan", "infinity", "surrogate", "tail", "bad-utf8", "utf8-surrogate"),
        *("huge-number", "list", "string", "null", "twin", "deep-twin", "nul"),
        *("deep-65", "deep-2000", "deep-200000", "many-names"),
    ],
)
async def test_a_body_that_is_no_good_json_is_refused_quickly(
    platform: Platform, body: bytes, status: int, said: str
) -> None:
    """S-33."""
    started = time.monotonic()
    answer = await platform.send("/api/v1/chat", body, **JSON)

    assert answer.status == status
    assert said in (await answer.json())["detail"]
    assert time.monotonic() - started < 5
    assert platform.peers.chat.requests == []


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/sessions", "/v1/embeddings"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_one_byte_over_the_limit_is_refused_by_name(
    platform: Platform, path: str, chunked: bool
) -> None:
    body = orjson.dumps({"message": ""})[:-2] + b"x" * (MIB + 1 - 14) + b'"}'
    assert len(body) == MIB + 1

    async def pieces() -> object:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    answer = await platform.send(path, pieces() if chunked else body, **JSON)

    content = await answer.text()
    assert answer.status == 413
    assert str(MIB) in content


async def test_a_body_of_exactly_the_limit_is_read(platform: Platform) -> None:
    body = b'{"message":"hi","metadata":{"a":"' + b"x" * (MIB - 36) + b'"}}'
    assert len(body) == MIB

    answer = await platform.send("/api/v1/chat", body, **JSON)

    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": ""},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/search"])
async def test_other_forms_of_bodies_are_refused(
    platform: Platform, path: str, headers: dict[str, str]
) -> None:
    answer = await platform.send(path, b'{"message":"hi"}', **headers)

    assert answer.status == 415


async def test_routes_of_the_framework_refuse_the_same_bodies(platform: Platform) -> None:
    twin = await platform.send("/api/v1/search", b'{"query":"a","query":"b"}', **JSON)
    deep = await platform.send("/api/v1/search", b"[" * 70 + b"]" * 70, **JSON)
    unknown = await platform.post("/api/v1/search", {"query": "a", "nonsense": 1})
    wrong = await platform.post("/api/v1/search", {"query": "a", "top_k": "ten"})
    empty = await platform.send("/api/v1/search", b"", **JSON)

    assert [answer.status for answer in (twin, deep, unknown, wrong)] == [422] * 4
    assert (await unknown.json())["errors"][0]["field"] == "nonsense"
    assert (await wrong.json())["errors"][0]["field"] == "top_k"
    assert empty.status == 422


async def test_wrong_parameters_are_named(platform: Platform) -> None:
    answer = await platform.get("/api/v1/sessions?page_size=0")

    assert answer.status == 422
    assert (await answer.json())["errors"][0]["field"] == "page_size"


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ü"])
async def test_an_idempotency_key_of_another_form_is_refused(platform: Platform, key: str) -> None:
    answer = await platform.post("/api/v1/chat", chat(), idempotency_key=key)

    assert answer.status == 422
    assert (await answer.json())["errors"][0]["field"] == "Idempotency-Key"


async def test_a_path_that_is_not_served_is_not_found(platform: Platform) -> None:
    answer = await platform.get("/api/v1/nothing")

    problem = await answer.json()
    assert answer.status == 404
    assert (problem["code"], problem["instance"]) == ("NOT_FOUND", "/api/v1/nothing")


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/sessions/x", "/v1/embeddings"])
async def test_a_method_that_is_not_served_is_refused_with_those_that_are(
    platform: Platform, path: str
) -> None:
    answer = await platform.http.put(platform.url + path, headers=platform.headers)

    assert answer.status == 405
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/sessions"])
async def test_a_head_that_no_body_follows_leaves_by_itself(platform: Platform, path: str) -> None:
    """A head is held for its body: by the raw routes, and for the framework."""
    for _ in range(2):
        answer = await platform.http.head(platform.url + path, headers=platform.headers)
        assert answer.status == 405
        assert int(answer.headers["content-length"]) > 0
        assert await answer.read() == b""


async def test_a_defect_tells_nothing_of_itself(platform: Platform) -> None:
    answer = await platform.http.post(
        f"{platform.url}/api/v1/documents/{new_id()}/reindex", headers=platform.headers
    )

    problem = await answer.json()
    assert answer.status == 500
    assert problem["code"] == "INTERNAL"
    assert "secret" not in orjson.dumps(problem).decode()


async def test_a_service_that_asks_for_patience_is_passed_on(platform: Platform) -> None:
    answer = await platform.get(f"/api/v1/documents/{new_id()}")

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert (await answer.json())["retry_after_ms"] == 2000


async def test_every_answer_names_its_request(platform: Platform) -> None:
    given = await platform.get("/api/v1/nothing", x_request_id="req-1.a:b")
    evil = await platform.get("/api/v1/nothing", x_request_id="a b<script>")

    assert given.headers["x-request-id"] == "req-1.a:b" == (await given.json())["request_id"]
    assert evil.headers["x-request-id"] == (await evil.json())["request_id"] != "a b<script>"


async def test_answers_cannot_be_taken_for_pages(platform: Platform) -> None:
    """S-68."""
    for answer in (
        await platform.post("/api/v1/chat", chat()),
        await platform.get("/api/v1/nothing"),
        await platform.get("/api/v1/models"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
