"""What the protos and the deadline table say about methods, and which channel leads where."""

import pytest

from meshwright.chat.v1 import chat_service_pb2
from meshwright.model_router.v1 import model_service_pb2
from meshwright.rag.v1 import knowledge_service_pb2
from meshwright.session.v1 import session_service_pb2
from meshwright.tool_exec.v1 import tool_service_pb2
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.registry.static import target_of
from meshwright_common.rpc import methods
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.local_server import LocalServer

LOADED = (
    chat_service_pb2,
    model_service_pb2,
    knowledge_service_pb2,
    session_service_pb2,
    tool_service_pb2,
)


@pytest.mark.parametrize(
    ("path", "seconds", "repeatable"),
    [
        ("/meshwright.session.v1.SessionService/GetSession", 2, True),
        ("/meshwright.session.v1.SessionService/CompareAndSetContext", 2, False),
        ("/meshwright.rag.v1.KnowledgeService/GetDocument", 10, True),
        ("/meshwright.rag.v1.KnowledgeService/UploadDocument", 300, False),
        ("/meshwright.chat.v1.ChatService/StreamChat", 300, False),
        ("/meshwright.chat.v1.ChatService/SubscribeTurn", 300, True),
        ("/meshwright.chat.v1.ChatService/GetTurn", 5, True),
        ("/meshwright.model_router.v1.ModelService/Embed", 60, True),
        ("/meshwright.model_router.v1.ModelService/CountTokens", 5, True),
        ("/meshwright.tool_exec.v1.ToolService/CancelCall", 5, True),
    ],
)
def test_method_has_the_deadline_and_the_idempotency_it_was_given(
    path: str, seconds: float, repeatable: bool
) -> None:
    facts = methods.method(path)
    assert facts is not None
    assert (seconds, repeatable) == (facts.deadline_seconds, facts.repeatable)


@pytest.mark.parametrize(
    "path", ["", "/", "x", "/x", "/x/y", "meshwright.chat.v1.ChatService/GetTurn", "//", "/a/b/c"]
)
def test_unknown_method_has_no_facts(path: str) -> None:
    assert methods.method(path) is None


@pytest.mark.parametrize(
    ("path", "deadlines", "seconds"),
    [
        ("/meshwright.session.v1.SessionService/GetSession", {}, 2.0),
        ("/meshwright.session.v1.SessionService/GetSession", {"*": 20.0}, 20.0),
        ("/meshwright.model_router.v1.ModelService/Embed", {"*": 20.0}, 60.0),
        ("/meshwright.chat.v1.ChatService/StreamChat", {"*": 20.0}, methods.STREAM_SECONDS),
        ("/no.such.Service/Method", {"*": 20.0}, 20.0),
        (
            "/meshwright.session.v1.SessionService/GetSession",
            {"*": 20.0, "/meshwright.session.v1.SessionService/GetSession": 1.0},
            1.0,
        ),
    ],
)
def test_a_deadline_is_the_methods_own_or_what_the_settings_say(
    path: str, deadlines: dict[str, float], seconds: float
) -> None:
    assert methods.seconds_for(path, methods.method(path), deadlines) == seconds


def test_peer_is_found_by_its_name_unless_it_is_configured() -> None:
    assert "dns:///tool-exec:50051" == target_of("tool-exec", {"rag": "local:"})
    assert "127.0.0.1:7" == target_of("rag", {"rag": "127.0.0.1:7"})
    assert "consul:///tool-exec" == target_of("tool-exec", {"rag": "local:"}, watched=True)
    assert "local:" == target_of("rag", {"rag": "local:"}, watched=True)


@pytest.mark.asyncio
async def test_channels_open_each_peer_once() -> None:
    tokens = TokenMinter("chat", ephemeral_keys(["chat"]).private_key("chat"))
    async with Channels(tokens, {"rag": "local:"}, local_server=LocalServer()) as channels:
        assert channels.open("rag") is channels.open("rag")
        assert channels.open("session") is not channels.open("rag")
    with pytest.raises(ValueError, match="no local server"):
        Channels(tokens, {"rag": "local:"}).open("rag")
    with pytest.raises(ValueError, match="no registry"):
        Channels(tokens, {"rag": "consul:///rag"}).open("rag")
    with pytest.raises(ValueError, match="'b' is no host:port"):
        Channels(tokens, {"rag": "static:///a:1,b"}).open("rag")
