"""Rules that need no server."""

import pytest
from pydantic import ValidationError

from meshwright.chat.v1 import chat_service_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright.errors.v1 import error_reason_pb2
from meshwright_common.errors import CLASS_BY_CODE, DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.quotas import quota_exceeded
from meshwright_common.settings import load
from meshwright_common.testing.mesh import calling_as, serving
from meshwright_gateway.http.problems import STATUS_BY_REASON, Problem, status_of
from meshwright_gateway.http.turn_feed import TurnFeed
from meshwright_gateway.limits.limit_settings import LimitsSection
from meshwright_gateway.limits.rules import Rules
from meshwright_gateway.settings import GatewaySection, Settings
from services.gateway.tests.peers import Peers, Script, turn_events


def test_every_reason_has_a_status() -> None:
    reasons = {
        name.removeprefix("ERROR_REASON_")
        for name, number in error_reason_pb2.ErrorReason.items()
        if number
    }
    assert reasons == STATUS_BY_REASON.keys()


@pytest.mark.parametrize("code", CLASS_BY_CODE)
def test_a_reason_of_a_later_version_counts_as_its_code(code: str) -> None:
    error = CLASS_BY_CODE[code]("text")
    known = status_of(error)
    error.reason = "SOMETHING_NEW"

    assert status_of(error) == (500 if code in ("INTERNAL", "DATA_LOSS") else known)
    assert Problem.of(error, "r").openai()["error"]


def test_a_used_up_quota_is_told_in_both_shapes_and_not_repeated_by_clients() -> None:
    error = quota_exceeded("sessions", used=100, limit=100, plan="starter", tenant_id="t")
    problem = Problem.of(error, "r")

    native = problem.native("/api/v1/sessions")
    assert (429, "QUOTA_EXCEEDED") == (native["status"], native["code"])
    assert {"quota": "sessions", "limit": "100", "used": "100", "plan": "starter"}.items() <= (
        dict(problem.metadata).items()
    )
    openai = problem.openai()["error"]
    assert isinstance(openai, dict)
    assert ("insufficient_quota", "insufficient_quota") == (openai["type"], openai["code"])
    assert (b"x-should-retry", b"false") in problem.headers("openai")


@pytest.mark.parametrize(
    "origin",
    ["*", "https://a.example/", "a.example", "https://A.example", "null", "https://a.example/x"],
)
def test_an_origin_that_is_not_exact_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        GatewaySection(cors_origins=(origin,))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWRIGHT_GATEWAY__PORT", "9000")
    monkeypatch.setenv("MESHWRIGHT_GATEWAY__CORS_ORIGINS", '["https://a.example"]')

    section = load(Settings).gateway

    assert (section.host, section.port) == ("127.0.0.1", 9000)
    assert section.cors_origins == ("https://a.example",)


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("late")])
async def test_a_turn_that_cannot_be_followed_is_given_up(error: ServiceError) -> None:
    """A chat service that stays away ends the stream with its error, not with the turn."""
    peers = Peers()
    peers.chat.script = lambda turn_id, _: Script(
        turn_events(turn_id, "a"), breaks_after={1: error}
    )
    async with serving(peers.register) as served:
        stub = ChatServiceStub(served.channels().open("chat"))
        start = chat_service_pb2.StreamChatRequest(message="a")
        feed = TurnFeed(stub, start=start, pauses_seconds=(0.001, 0.001))
        with calling_as("01890a5d-ac96-774b-bcce-b302099a8057", "agent:execute", "chat:read"):
            peers.chat.follow_error = error
            with pytest.raises(type(error)):
                _ = [event async for event in feed.events()]

    assert len(peers.chat.subscriptions) == 2


@pytest.mark.parametrize(
    ("request_line", "is_work"),
    [
        ("POST /api/v1/turns/0192/regenerate", True),
        ("POST /api/v1/turns/0192/cancel", False),
        ("POST /v1/embeddings", True),
    ],
)
def test_a_star_in_a_path_stands_for_a_piece_or_the_rest(request_line: str, is_work: bool) -> None:
    method, _, path = request_line.partition(" ")
    assert Rules(LimitsSection()).route(method, path).is_work is is_work
