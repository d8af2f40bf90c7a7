"""The document of the API, its page, health, metrics, other origins."""

import re

import pytest

from meshwright_common.context import Principal
from meshwright_common.ids import new_id
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio

EXPECTED = """
GET /api/v1/agents
POST /api/v1/agents/execute
GET /api/v1/agents/{name}
PUT /api/v1/agents/{name}
POST /api/v1/agents/{name}/rollback
GET /api/v1/agents/{name}/versions
GET /api/v1/api-keys
POST /api/v1/api-keys
DELETE /api/v1/api-keys/{api_key_id}
GET /api/v1/audit
GET /api/v1/audit/checkpoints
GET /api/v1/audit/keys
GET /api/v1/audit/verify
POST /api/v1/auth/token
GET /api/v1/budgets
POST /api/v1/chat
GET /api/v1/documents/{document_id}
DELETE /api/v1/documents/{document_id}
GET /api/v1/documents/{document_id}/events
POST /api/v1/documents/{document_id}/reindex
GET /api/v1/erasures
GET /api/v1/erasures/{erasure_id}
GET /api/v1/guards
POST /api/v1/guards/check
PUT /api/v1/guards/{name}
DELETE /api/v1/guards/{name}
GET /api/v1/interrupts
GET /api/v1/knowledge-bases
POST /api/v1/knowledge-bases
GET /api/v1/knowledge-bases/{knowledge_base_id}
DELETE /api/v1/knowledge-bases/{knowledge_base_id}
GET /api/v1/knowledge-bases/{knowledge_base_id}/documents
POST /api/v1/knowledge-bases/{knowledge_base_id}/documents
GET /api/v1/mcp/servers
POST /api/v1/mcp/servers
GET /api/v1/mcp/servers/{name}
DELETE /api/v1/mcp/servers/{name}
POST /api/v1/mcp/servers/{name}/refresh
GET /api/v1/mcp/stream
GET /api/v1/me
GET /api/v1/memories
POST /api/v1/memories
DELETE /api/v1/memories
POST /api/v1/memories/search
DELETE /api/v1/memories/{memory_id}
GET /api/v1/messages/search
GET /api/v1/models
GET /api/v1/notifications
POST /api/v1/notifications/read
GET /api/v1/notifications/stream
GET /api/v1/quota
GET /api/v1/routing/deployments
POST /api/v1/routing/deployments
GET /api/v1/routing/deployments/{name}
PATCH /api/v1/routing/deployments/{name}
DELETE /api/v1/routing/deployments/{name}
GET /api/v1/routing/explain
GET /api/v1/routing/health
GET /api/v1/routing/policies
PUT /api/v1/routing/policies/{name}
DELETE /api/v1/routing/policies/{name}
GET /api/v1/routing/prices
POST /api/v1/routing/prices
GET /api/v1/schedules
POST /api/v1/schedules
DELETE /api/v1/schedules/{schedule_id}
POST /api/v1/schedules/{schedule_id}/pause
POST /api/v1/schedules/{schedule_id}/resume
POST /api/v1/search
GET /api/v1/sessions
POST /api/v1/sessions
GET /api/v1/sessions/{session_id}
PATCH /api/v1/sessions/{session_id}
DELETE /api/v1/sessions/{session_id}
POST /api/v1/sessions/{session_id}/archive
POST /api/v1/sessions/{session_id}/branch
GET /api/v1/sessions/{session_id}/context
PUT /api/v1/sessions/{session_id}/context
GET /api/v1/sessions/{session_id}/context/diff
POST /api/v1/sessions/{session_id}/context/restore
GET /api/v1/sessions/{session_id}/context/snapshots
GET /api/v1/sessions/{session_id}/messages
POST /api/v1/sessions/{session_id}/restore
GET /api/v1/sessions/{session_id}/turns
GET /api/v1/tasks
POST /api/v1/tasks
GET /api/v1/tasks/{task_id}
POST /api/v1/tasks/{task_id}/cancel
GET /api/v1/tasks/{task_id}/replay
POST /api/v1/tasks/{task_id}/resume
GET /api/v1/tasks/{task_id}/events
GET /api/v1/tenant
DELETE /api/v1/tenant
GET /api/v1/tools
GET /api/v1/tools/{name}
POST /api/v1/tools/{name}/execute
GET /api/v1/turns/{turn_id}
POST /api/v1/turns/{turn_id}/cancel
GET /api/v1/turns/{turn_id}/events
PUT /api/v1/turns/{turn_id}/rating
POST /api/v1/turns/{turn_id}/regenerate
GET /api/v1/usage
GET /api/v1/usage/export
GET /api/v1/usage/tasks
GET /api/v1/users
POST /api/v1/users
GET /api/v1/users/{user_id}
PATCH /api/v1/users/{user_id}
DELETE /api/v1/users/{user_id}
GET /api/v1/workflows
POST /api/v1/workflows
GET /api/v1/workflows/runs
GET /api/v1/workflows/runs/{run_id}
POST /api/v1/workflows/runs/{run_id}/cancel
GET /api/v1/workflows/runs/{run_id}/graph
GET /api/v1/workflows/{workflow_id}
POST /api/v1/workflows/{workflow_id}/runs
POST /api/v1/webhook-deliveries/{delivery_id}/redeliver
GET /api/v1/webhooks
POST /api/v1/webhooks
GET /api/v1/webhooks/{webhook_id}
PATCH /api/v1/webhooks/{webhook_id}
DELETE /api/v1/webhooks/{webhook_id}
GET /api/v1/webhooks/{webhook_id}/deliveries
POST /api/v1/webhooks/{webhook_id}/secret
POST /api/v1/webhooks/{webhook_id}/test
GET /health/live
GET /health/ready
GET /metrics
GET /openapi.json
POST /v1/chat/completions
POST /v1/embeddings
GET /v1/models
GET /v1/models/{model}
POST /v1/moderations
POST /v1/rerank
""".strip().splitlines()


async def test_the_document_holds_every_route(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/openapi.json") as answer:
        document = await answer.json()

    assert answer.status == 200
    assert document["openapi"].startswith("3.1")
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert operations == set(EXPECTED)
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]


async def test_every_reference_of_the_document_leads_somewhere(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/openapi.json") as answer:
        text = await answer.text()
        document = await answer.json()

    schemas = document["components"]["schemas"]
    used = set(re.findall(r"#/components/schemas/([A-Za-z0-9_-]+)", text))
    assert used <= schemas.keys()
    assert "HTTPValidationError" not in schemas


async def test_every_operation_says_what_it_does_and_how_it_fails(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/openapi.json") as answer:
        document = await answer.json()

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            if operation.get("security") != []:
                assert "default" in operation["responses"], (path, method)
    assert "turn.completed" in str(document["tags"])


async def test_the_page_needs_no_other_host(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/docs") as answer:
        page = await answer.text()

    assert answer.status == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in page
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 4
    for file in files:
        async with platform.http.get(platform.url + file) as answer:
            assert answer.status == 200, file
            assert len(await answer.read()) > 100


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "main.py", "swagger-ui.css%00"])
async def test_only_the_files_of_the_page_are_served(platform: Platform, name: str) -> None:
    async with platform.http.get(f"{platform.url}/docs/{name}") as answer:
        assert answer.status in (401, 404)


async def test_health_needs_no_key(platform: Platform) -> None:
    for path in ("/health/live", "/health/ready"):
        async with platform.http.get(platform.url + path) as answer:
            assert answer.status == 200


async def test_metrics_are_for_this_machine_and_for_who_administers(platform: Platform) -> None:
    await platform.get("/api/v1/models")
    admin = Principal(new_id(), new_id(), "user", frozenset({"tenant:admin"}))
    admin_key = platform.peers.directory.give_key(admin)
    behind_proxy = {"x-forwarded-for": "203.0.113.9"}

    async with platform.http.get(f"{platform.url}/metrics") as local:
        text = await local.text()
    async with platform.http.get(f"{platform.url}/metrics", headers=behind_proxy) as stranger:
        pass
    member = await platform.get("/metrics", x_forwarded_for="203.0.113.9")
    owner = await platform.get(
        "/metrics", x_forwarded_for="203.0.113.9", authorization=f"Bearer {admin_key}"
    )

    assert 'meshwright_http_server_seconds_count{method="GET",route="/api/v1/models"' in text
    statuses = (local.status, stranger.status, member.status, owner.status)
    assert statuses == (200, 401, 403, 200)


async def test_pages_of_other_origins_get_no_permission(platform: Platform) -> None:
    """S-64."""
    answer = await platform.get("/api/v1/models", origin="https://evil.example")

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://evil.example", False),
        ("https://app.example.evil.com", False),
        ("https://sub.app.example", False),
        ("http://app.example", False),
        ("null", False),
    ],
)
async def test_only_listed_origins_get_permission(origin: str, allowed: bool) -> None:
    """S-64: exact, never reflected, never with cookies."""
    async with running(cors_origins=("https://app.example",)) as platform:
        answer = await platform.get("/api/v1/models", origin=origin)
        async with platform.http.options(
            f"{platform.url}/api/v1/chat",
            headers={"origin": origin, "access-control-request-method": "POST"},
        ) as preflight:
            pass

    given = answer.headers.get("access-control-allow-origin")
    assert given == (origin if allowed else None)
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert ("access-control-allow-methods" in preflight.headers) is allowed
