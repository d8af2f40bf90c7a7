"""Routes that answer in one piece: what reaches the services, and what comes back."""

import asyncio
import csv
import io
import sys
from datetime import UTC, datetime

import aiohttp
import orjson
import pytest
from pyarrow import parquet  # type: ignore[import-untyped]

from meshwright.session.v1 import usage_service_pb2
from meshwright.types.v1 import usage_pb2
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from meshwright_gateway.http.schemas.records import UsageRow
from meshwright_gateway.http.usage_files import GROUP_ROWS
from meshwright_gateway.wire.values import object_from
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio


async def test_a_session_is_created_where_its_location_says(platform: Platform) -> None:
    body = {"title": "new", "agent": "rag", "metadata": {"a": [1, 2.5, None, {"b": True}]}}

    answer = await platform.post("/api/v1/sessions", body, idempotency_key="s-1")

    sessions = platform.peers.sessions
    (request,) = sessions.requests
    content = await answer.json()
    assert answer.status == 201
    assert answer.headers["location"] == f"/api/v1/sessions/{content['session_id']}"
    assert (content["title"], content["metadata"]) == ("new", body["metadata"])
    assert request.request_id == "s-1"
    assert object_from(request.session.metadata) == body["metadata"]


async def test_an_update_names_only_what_the_body_names(platform: Platform) -> None:
    body = {"title": "", "knowledge_base_ids": [], "etag": "7"}
    async with platform.http.patch(
        f"{platform.url}/api/v1/sessions/{new_id()}", json=body, headers=platform.headers
    ) as answer:
        assert answer.status == 200

    (request,) = platform.peers.sessions.requests
    assert sorted(request.update_mask.paths) == ["knowledge_base_ids", "title"]
    assert request.session.etag == "7"


async def test_an_update_of_nothing_is_refused(platform: Platform) -> None:
    async with platform.http.patch(
        f"{platform.url}/api/v1/sessions/{new_id()}", json={"etag": "1"}, headers=platform.headers
    ) as answer:
        assert answer.status == 422
        assert "title" in (await answer.json())["detail"]


async def test_lists_are_read_on_with_their_token(platform: Platform) -> None:
    answer = await platform.get("/api/v1/sessions?page_size=7&page_token=from-here")

    (request,) = platform.peers.sessions.requests
    assert (request.page.page_size, request.page.page_token) == (7, "from-here")
    assert (await answer.json())["next_page_token"] == "more"


async def test_a_removed_session_answers_with_nothing(platform: Platform) -> None:
    async with platform.http.delete(
        f"{platform.url}/api/v1/sessions/{new_id()}", headers=platform.headers
    ) as answer:
        assert (answer.status, await answer.read()) == (204, b"")


async def test_messages_show_their_parts_and_calls(platform: Platform) -> None:
    answer = await platform.get(f"/api/v1/sessions/{new_id()}/messages?newest_first=true")

    (message,) = (await answer.json())["messages"]
    (request,) = platform.peers.sessions.requests
    assert request.newest_first
    assert (message["role"], message["text"], message["usage"]) == ("assistant", "42", None)
    assert [part["text"] for part in message["parts"]] == ["4", "2"]
    assert message["tool_calls"][0]["name"] == "calculator"


async def test_agents_and_tools_are_listed(platform: Platform) -> None:
    agents = await (await platform.get("/api/v1/agents")).json()
    tools = await (await platform.get("/api/v1/tools")).json()

    assert (agents["agents"][0]["name"], agents["agents"][0]["type"]) == ("rag", "tool_call")
    (tool,) = tools["tools"]
    assert (tool["source"], tool["effect"]) == ("builtin", "read_only")
    assert tool["input_schema"] == {"type": "object", "maxProperties": 3}
    assert '"maxProperties":3' in (await (await platform.get("/api/v1/tools")).text())


@pytest.mark.parametrize("name", ["echo", "broken"])
async def test_a_tool_is_called_and_its_failure_is_an_answer(platform: Platform, name: str) -> None:
    answer = await platform.post(f"/api/v1/tools/{name}/execute", {"arguments": {"a": [1]}})

    content = await answer.json()
    assert answer.status == 200
    assert (content["call_id"], content["result"]) == ("call-1", {"a": [1]})
    assert content["is_error"] is (name == "broken")
    assert content["citations"] == [{"number": 1}]


async def test_tasks_are_filtered_by_state(platform: Platform) -> None:
    answer = await platform.get("/api/v1/tasks?state=running&state=failed")
    wrong = await platform.get("/api/v1/tasks?state=asleep")

    (request,) = platform.peers.agents.requests
    assert list(request.states) == [2, 5]
    (task,) = (await answer.json())["tasks"]
    assert (task["state"], task["result"], task["end_time"]) == ("running", None, None)
    assert wrong.status == 422


async def test_usage_is_summed_as_asked_for(platform: Platform) -> None:
    answer = await platform.get(
        "/api/v1/usage?group_by=day&group_by=model&start_time=2026-01-01T00:00:00Z"
    )

    (request,) = platform.peers.usage.requests
    assert list(request.group_by) == [1, 3]
    assert request.start_time.ToJsonString() == "2026-01-01T00:00:00Z"
    (row,) = (await answer.json())["sums"]
    assert (row["day"], row["usage"]["prompt_tokens"]) == ("2026-01-31", 2**40)


async def test_ended_tasks_are_counted_as_asked_for(platform: Platform) -> None:
    answer = await platform.get(
        "/api/v1/usage/tasks?start_time=2026-01-01T00:00:00Z&user_id=u&page_size=3"
    )

    (request,) = platform.peers.usage.requests
    assert request.start_time.ToJsonString() == "2026-01-01T00:00:00Z"
    assert (request.user_id, request.page.page_size) == ("u", 3)
    content = await answer.json()
    (row,) = content["statistics"]
    assert (row["day"], row["agent"], row["state"], row["task_count"]) == (
        "2026-01-31",
        "rag",
        "failed",
        3,
    )
    assert (row["total_duration_milliseconds"], content["next_page_token"]) == (61_500, "more")


async def test_audit_shows_hashes_as_text(platform: Platform) -> None:
    answer = await platform.get("/api/v1/audit?action_prefix=document.")

    (record,) = (await answer.json())["records"]
    assert (record["action"], record["hash"]) == ("document.uploaded", "ab" * 32)


def ledger_row(model: str) -> usage_service_pb2.ExportRowsResponse:
    """Return a row of the ledger."""
    usage = usage_pb2.TokenUsage(prompt_tokens=3, estimated=True)
    return usage_service_pb2.ExportRowsResponse(event_id=new_id(), model=model, usage=usage)


async def test_the_ledger_is_exported_as_csv_that_runs_nothing(platform: Platform) -> None:
    """A cell that a spreadsheet would take for a formula is text."""
    platform.peers.usage.rows = [ledger_row('a,"b"'), ledger_row("=cmd()")]

    answer = await platform.get("/api/v1/usage/export?start_time=2026-01-01T00:00:00Z")

    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert [row["model"] for row in rows] == ['a,"b"', "'=cmd()"]
    assert (rows[0]["prompt_tokens"], rows[0]["estimated"]) == ("3", "True")


async def test_the_ledger_is_exported_as_json_lines(platform: Platform) -> None:
    platform.peers.usage.rows = [ledger_row(f"m{number}") for number in range(2000)]

    answer = await platform.get("/api/v1/usage/export?format=jsonl")

    rows = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    assert [row["model"] for row in rows] == [f"m{number}" for number in range(2000)]


async def test_the_ledger_is_exported_as_parquet_with_types_and_descriptions(
    platform: Platform,
) -> None:
    count = GROUP_ROWS + 5
    platform.peers.usage.rows = [ledger_row(f"=m{number}") for number in range(count)]
    for row in platform.peers.usage.rows:
        row.usage.cost_micro_usd = 2**53 + 1
        row.time.FromJsonString("2026-01-02T03:04:05.000006Z")

    answer = await platform.get("/api/v1/usage/export?format=parquet")

    table = parquet.read_table(io.BytesIO(await answer.read()))
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert table.column_names == [*UsageRow.model_fields]
    assert table.column("model").to_pylist() == [f"=m{number}" for number in range(count)]
    assert set(table.column("cost_micro_usd").to_pylist()) == {2**53 + 1}
    assert table.column("time")[0].as_py() == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    description = table.schema.field("cost_micro_usd").metadata[b"description"]
    assert description == b"Millionths of a US dollar, whole."


async def test_the_form_of_an_export_can_be_asked_for_by_header(platform: Platform) -> None:
    platform.peers.usage.rows = [ledger_row("m")]
    types = {
        "application/vnd.apache.parquet;q=0.9, text/csv;q=0.1": "application/vnd.apache.parquet",
        "application/x-ndjson": "application/x-ndjson",
        "text/html, */*": "text/csv; charset=utf-8",
    }
    for accept, given in types.items():
        answer = await platform.get("/api/v1/usage/export", accept=accept)
        assert answer.headers["content-type"] == given
        await answer.read()
    refused = await platform.get("/api/v1/usage/export?format=xlsx")
    assert (refused.status, (await refused.json())["errors"][0]["field"]) == (422, "format")


async def test_who_exports_no_parquet_does_not_load_its_library() -> None:
    code = "import sys, meshwright_gateway.app; sys.exit('pyarrow' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_checkpoints_and_their_keys_are_shown_as_text(platform: Platform) -> None:
    listed = await (await platform.get("/api/v1/audit/checkpoints")).json()
    keys = await (await platform.get("/api/v1/audit/keys")).json()
    verdict = await (await platform.get("/api/v1/audit/verify")).json()

    (checkpoint,) = listed["checkpoints"]
    assert (checkpoint["signature"], checkpoint["document"]) == ("cd" * 64, '{"number":1}')
    assert keys == {"keys": [{"key_id": "k1", "public_key": "-----BEGIN"}]}
    assert (verdict["first_sequence"], verdict["checkpoint_count"]) == (7, 2)


async def test_an_empty_ledger_is_an_empty_file(platform: Platform) -> None:
    as_csv = await platform.get("/api/v1/usage/export")
    as_lines = await platform.get("/api/v1/usage/export?format=jsonl")

    assert (as_csv.status, as_lines.status) == (200, 200)
    assert len((await as_csv.text()).splitlines()) == 1
    assert await as_lines.read() == b""


async def test_an_export_that_breaks_cannot_be_taken_for_whole(platform: Platform) -> None:
    usage = platform.peers.usage
    usage.rows = [ledger_row("m") for _ in range(2000)]
    usage.error = Unavailable("the database is away")

    with pytest.raises(aiohttp.ClientPayloadError):
        await platform.get("/api/v1/usage/export")


async def test_an_export_that_cannot_begin_is_a_problem(platform: Platform) -> None:
    platform.peers.usage.error = Unavailable("the database is away")

    answer = await platform.get("/api/v1/usage/export")

    assert answer.status == 503
