"""The gRPC contract with nothing but the stubs, at the addresses of endpoint.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.rag.v1 import (
    document_pb2,
    knowledge_service_pb2,
    retrieval_service_pb2,
)
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from meshwright.session.v1 import directory_service_pb2, session_service_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceStub
from meshwright.tool_exec.v1 import skill_service_pb2, tool_service_pb2
from meshwright.tool_exec.v1.skill_service_pb2_grpc import SkillServiceStub
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceStub
from meshwright.types.v1 import message_pb2
from meshwright_credentials import loopback_channel_credentials
from tests.platform_process import Platform
from tests.tenants import new_tenant

S = TypeVar("S")
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ask_over_grpc.py"
ONLY_STUBS = """
import runpy, sys

class OnlyStubs:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("meshwright_") and name.partition(".")[0] != "meshwright_credentials":
            raise ImportError(f"{name} is not part of the stubs")

sys.meta_path.insert(0, OnlyStubs())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Mesh:
    """Stubs of one caller."""

    def __init__(self, platform: Platform, api_key: str) -> None:
        self._platform = platform
        self._credentials = loopback_channel_credentials(platform.url, api_key)

    @contextmanager
    def stub(self, service: str, stub: Callable[[grpc.Channel], S]) -> Iterator[S]:
        with grpc.secure_channel(self._platform.grpc[service], self._credentials) as channel:
            yield stub(channel)


@pytest.fixture
def mesh(platform: Platform) -> Mesh:
    """The caller of a tenant of its own."""
    return Mesh(platform, new_tenant(platform).api_key)


def upload(mesh: Mesh, name: str, content: bytes) -> str:
    """Upload a document, follow its indexing to the end, and return its id."""

    def parts() -> Iterator[knowledge_service_pb2.UploadDocumentRequest]:
        header = document_pb2.DocumentHeader(name=name)
        yield knowledge_service_pb2.UploadDocumentRequest(header=header)
        for start in range(0, len(content), 20):
            piece = content[start : start + 20]
            yield knowledge_service_pb2.UploadDocumentRequest(data=piece)

    with mesh.stub("rag", KnowledgeServiceStub) as knowledge:
        stored = knowledge.UploadDocument(parts(), timeout=20).document
        watch = knowledge_service_pb2.WatchIndexingRequest(document_ids=[stored.document_id])
        states = [one.progress.state for one in knowledge.WatchIndexing(watch, timeout=20)]
    assert states[-1] == document_pb2.DOCUMENT_STATE_READY
    return stored.document_id


@pytest.mark.promise("GRPC-01")
def test_a_turn_streams_and_can_be_followed_again_from_any_event(mesh: Mesh) -> None:
    request = chat_service_pb2.StreamChatRequest(message="Hello", model="sim-n9", agent="chat")
    with mesh.stub("chat", ChatServiceStub) as chat:
        seen = [one.event for one in chat.StreamChat(request, timeout=30)]
        again = chat_service_pb2.SubscribeTurnRequest(turn_id=seen[0].turn_id, after_sequence=3)
        rest = [one.event for one in chat.SubscribeTurn(again, timeout=30)]
        turn = chat.GetTurn(chat_service_pb2.GetTurnRequest(turn_id=seen[0].turn_id)).turn
    assert [event.sequence for event in seen] == [*range(1, len(seen) + 1)]
    assert rest == seen[3:]
    assert "".join(event.message_delta.text for event in seen) == turn.answer
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED


@pytest.mark.promise("GRPC-02")
def test_a_document_is_uploaded_watched_and_found(mesh: Mesh) -> None:
    document_id = upload(mesh, "tides.txt", b"High water at the old pier is at noon on Sundays.")
    with mesh.stub("rag", RetrievalServiceStub) as retrieval:
        request = retrieval_service_pb2.SearchRequest(query="When is high water at the pier?")
        found = retrieval.Search(request, timeout=10)
    assert [passage.document_id for passage in found.passages] == [document_id]
    assert "noon on Sundays" in found.passages[0].text
    assert list(found.degraded) == []


@pytest.mark.promise("GRPC-03")
def test_models_generate_and_embed(mesh: Mesh) -> None:
    hello = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="Hello")]
    )
    with mesh.stub("model-router", ModelServiceStub) as models:
        generate = model_service_pb2.GenerateRequest(model="sim-n6", messages=[hello])
        events = [one.event for one in models.Generate(generate, timeout=20)]
        embedded = models.Embed(model_service_pb2.EmbedRequest(texts=["a", "b"]), timeout=20)
    text = "".join(event.delta.text for event in events)
    assert len(text.split()) == 6
    assert events[-1].finished.finish_reason == generation_pb2.FINISH_REASON_STOP
    assert len(embedded.embeddings) == 2


@pytest.mark.promise("GRPC-04")
def test_a_tool_runs_and_an_agent_runs_as_a_task(mesh: Mesh) -> None:
    with mesh.stub("tool-exec", ToolServiceStub) as tools:
        names = [tool.name for tool in tools.ListTools(tool_service_pb2.ListToolsRequest()).tools]
        call = tool_service_pb2.ExecuteToolRequest(
            name="calculator", arguments_json='{"expression": "2**10"}'
        )
        outcome = [one.event for one in tools.ExecuteTool(call, timeout=20)][-1].outcome
    assert {"calculator", "current_time", "knowledge_search", "http_get"} <= set(names)
    assert json.loads(outcome.result_json)["value"] == "1024"
    question = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="What is 17*23+4?")]
    )
    with mesh.stub("orchestrator", AgentServiceStub) as agents:
        spec = task_pb2.TaskSpec(agent="tool_call", messages=[question])
        request = agent_service_pb2.ExecuteTaskRequest(spec=spec)
        events = [one.event for one in agents.ExecuteTask(request, timeout=30)]
        task = agents.GetTask(agent_service_pb2.GetTaskRequest(task_id=events[0].task_id)).task
    assert "395" in events[-1].final.answer
    assert task.state == task_pb2.TASK_STATE_COMPLETED


@pytest.mark.promise("GRPC-05")
def test_errors_carry_a_stable_reason(mesh: Mesh) -> None:
    with mesh.stub("session", SessionServiceStub) as sessions, pytest.raises(grpc.RpcError) as gone:
        sessions.GetSession(
            session_service_pb2.GetSessionRequest(session_id="01a1fa9d-a205-72a7-a156-c67e95e29f0b")
        )
    assert reason_of(gone.value) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    with mesh.stub("session", SessionServiceStub) as sessions, pytest.raises(grpc.RpcError) as bad:
        sessions.GetSession(session_service_pb2.GetSessionRequest(session_id="x"))
    assert reason_of(bad.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    with mesh.stub("tool-exec", SkillServiceStub) as skills, pytest.raises(grpc.RpcError) as later:
        skills.ListSkills(skill_service_pb2.ListSkillsRequest())
    assert reason_of(later.value) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_YET_SERVED")


@pytest.mark.promise("GRPC-06")
def test_nobody_calls_without_a_token_or_beyond_its_permissions(
    platform: Platform, mesh: Mesh
) -> None:
    with grpc.insecure_channel(platform.grpc["chat"]) as bare, pytest.raises(grpc.RpcError) as none:
        ChatServiceStub(bare).GetTurn(chat_service_pb2.GetTurnRequest(turn_id="x"))
    assert reason_of(none.value) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    with mesh.stub("session", DirectoryServiceStub) as people:
        with pytest.raises(grpc.RpcError) as inner:
            people.CreateTenant(directory_service_pb2.CreateTenantRequest())
        assert reason_of(inner.value) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        narrow = people.CreateApiKey(
            directory_service_pb2.CreateApiKeyRequest(label="narrow", permissions=["chat:read"])
        )
    reader = Mesh(platform, narrow.secret)
    with reader.stub("chat", ChatServiceStub) as chat, pytest.raises(grpc.RpcError) as refused:
        list(chat.StreamChat(chat_service_pb2.StreamChatRequest(message="Hello")))
    assert reason_of(refused.value) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.promise("GRPC-07")
def test_health_and_reflection_answer_at_every_address(platform: Platform) -> None:
    for service, address in platform.grpc.items():
        with grpc.insecure_channel(address) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            listing = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            replies = stub.ServerReflectionInfo(iter([listing]), timeout=5)  # type: ignore[operator]
            names = {one.name for reply in replies for one in reply.list_services_response.service}
        assert any(f".{service.replace('-', '_')}.v1." in name for name in names), service


@pytest.mark.promise("GRPC-08")
def test_a_program_with_nothing_but_the_stubs_asks(platform: Platform) -> None:
    """The README's example, in a process that can import nothing else of ours."""
    endpoint = platform.data / "endpoint.json"
    done = subprocess.run(
        [sys.executable, "-c", ONLY_STUBS, str(EXAMPLE), str(endpoint), "What is 17*23+4?"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "395" in done.stdout
    assert "calculator" in done.stdout


def reason_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Return the code and the reason in the ErrorInfo of the error's details."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "meshwright"
    return error.code(), info.reason
