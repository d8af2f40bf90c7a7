"""Who may come in, and as whom."""

import asyncio
import time

import pytest

from meshwright_common.context import Principal
from meshwright_common.errors import FailedPrecondition, Unavailable
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio

PATHS = ["/api/v1/models", "/v1/models", "/api/v1/nothing", "/v1/nothing", "/api/v1/me"]


async def ask(platform: Platform, path: str = "/api/v1/models", **headers: str) -> int:
    """Ask with exactly these headers and return the status."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with platform.http.get(platform.url + path, headers=names) as answer:
        return answer.status


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_credential_nothing_is_served(platform: Platform, path: str) -> None:
    async with platform.http.get(platform.url + path) as answer:
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="meshwright"'
        assert "Bearer mw_" in await answer.text()


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer mw_" + "A" * 43 + "_0000000",
        "Bearer nonsense",
        "Bearer ",
        "Basic YTpi",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer " + "x" * 5000,
        "Bearer mw_\u00fc",
    ],
)
async def test_a_wrong_credential_is_refused(platform: Platform, credential: str) -> None:
    assert await ask(platform, authorization=credential) == 401
    assert platform.peers.directory.look_ups == 0


async def test_a_key_that_the_directory_does_not_know_is_refused(platform: Platform) -> None:
    key = platform.peers.directory.give_key(platform.caller)
    platform.peers.directory.revoke(key)

    assert await ask(platform, authorization=f"Bearer {key}") == 401
    assert await ask(platform, authorization=f"Bearer {key}") == 401
    assert platform.peers.directory.look_ups == 1


async def test_a_key_may_come_in_either_header(platform: Platform) -> None:
    assert await ask(platform, authorization=f"bearer {platform.key}") == 200
    assert await ask(platform, x_api_key=platform.key) == 200


async def test_two_authorization_headers_are_refused(platform: Platform) -> None:
    """S-24: readers would disagree on which one counts."""
    reader, writer = await platform.raw()
    line = f"authorization: Bearer {platform.key}\r\n"
    writer.write(f"GET /api/v1/models HTTP/1.1\r\nhost: x\r\n{line}{line}\r\n".encode())

    assert b" 401 " in await reader.readline()
    writer.close()


async def test_headers_that_claim_an_identity_are_ignored(platform: Platform) -> None:
    """S-24."""
    await platform.post(
        "/api/v1/chat",
        {"message": "a"},
        x_tenant_id=new_id(),
        x_user_id=new_id(),
        x_role="owner",
        x_forwarded_user="root",
        grpc_metadata_authorization="Bearer x",
    )

    assert platform.peers.chat.callers == [platform.caller]


async def test_the_directory_is_asked_as_the_gateway_itself(platform: Platform) -> None:
    await platform.get("/api/v1/models")

    (asker,) = platform.peers.directory.callers
    assert (asker.subject, asker.kind) == ("gateway", "service")
    assert asker.permissions == {"mesh:internal"}


async def test_a_key_is_asked_for_once_and_remembered(platform: Platform) -> None:
    began = time.monotonic()
    for _ in range(3):
        await platform.get("/api/v1/models")

    # Once in the time that it is remembered for: a starved machine may take longer than that.
    spans = 1 + int((time.monotonic() - began) / platform.settings.key_cache_seconds)
    assert 1 <= platform.peers.directory.look_ups <= spans


async def test_requests_that_come_together_ask_once(platform: Platform) -> None:
    directory = platform.peers.directory
    directory.gate = asyncio.Event()
    asking = [asyncio.ensure_future(platform.get("/api/v1/models")) for _ in range(20)]
    await eventually(lambda: directory.look_ups == 1)
    directory.gate.set()

    answers = await asyncio.gather(*asking)

    assert {answer.status for answer in answers} == {200}
    assert directory.look_ups == 1


async def test_a_revoked_key_stops_working_when_the_memory_ends() -> None:
    async with running(key_cache_seconds=0) as platform:
        assert (await platform.get("/api/v1/models")).status == 200

        platform.peers.directory.revoke(platform.key)

        assert (await platform.get("/api/v1/models")).status == 401


async def test_a_directory_that_is_away_is_no_refusal(platform: Platform) -> None:
    platform.peers.directory.error = Unavailable("away", retry_after_seconds=1.0)
    assert (await platform.get("/api/v1/models")).status == 503

    platform.peers.directory.error = None

    assert (await platform.get("/api/v1/models")).status == 200


async def test_a_suspended_tenant_is_told_so(platform: Platform) -> None:
    platform.peers.directory.error = FailedPrecondition("the tenant is suspended")
    platform.peers.directory.error.reason = "TENANT_SUSPENDED"

    answer = await platform.get("/api/v1/models")

    assert answer.status == 403
    assert (await answer.json())["code"] == "TENANT_SUSPENDED"


async def test_a_missing_permission_is_named(platform: Platform) -> None:
    weak = Principal(new_id(), new_id(), "user", frozenset({"chat:read"}))
    key = platform.peers.directory.give_key(weak)

    answer = await platform.get("/api/v1/models", authorization=f"Bearer {key}")

    assert answer.status == 403
    assert (await answer.json())["metadata"] == {"permission": "model:read"}


async def test_a_key_becomes_a_token_that_services_accept(platform: Platform) -> None:
    answer = await platform.post("/api/v1/auth/token", {"grant_type": "api_key"})

    content = await answer.json()
    assert answer.status == 200
    assert content["token_type"] == "Bearer"
    assert 0 < content["expires_in"] <= 60
    verifier = TokenVerifier(platform.served.keys.trusted)
    assert verifier.verify(content["access_token"]) == platform.caller
    bearer = f"Bearer {content['access_token']}"
    assert (await platform.get("/api/v1/models", authorization=bearer)).status == 200
    assert answer.headers["cache-control"] == "no-store"


async def test_a_token_does_not_buy_the_next_one(platform: Platform) -> None:
    """A token that renews itself would outlive its revoked key."""
    token = platform.served.token(platform.caller)

    answer = await platform.post(
        "/api/v1/auth/token", {"grant_type": "api_key"}, authorization=f"Bearer {token}"
    )

    assert answer.status == 401


async def test_a_token_holds_no_more_than_its_user_does_now(platform: Platform) -> None:
    """R-23: a minute's life is too long for a right that was taken away."""
    bearer = f"Bearer {platform.served.token(platform.caller)}"
    platform.peers.directory.narrow(platform.caller, "session:read")

    answer = await platform.get("/api/v1/models", authorization=bearer)

    assert answer.status == 403
    assert (await answer.json())["metadata"] == {"permission": "model:read"}


async def test_a_token_of_a_disabled_user_is_refused(platform: Platform) -> None:
    bearer = f"Bearer {platform.served.token(platform.caller)}"
    platform.peers.directory.disable(platform.caller)

    assert (await platform.get("/api/v1/models", authorization=bearer)).status == 401


async def test_a_token_outlives_a_directory_that_is_away(platform: Platform) -> None:
    platform.peers.directory.error = Unavailable("away", retry_after_seconds=1.0)
    bearer = f"Bearer {platform.served.token(platform.caller)}"

    assert (await platform.get("/api/v1/models", authorization=bearer)).status == 200


async def test_me_tells_whom_the_credential_stands_for(platform: Platform) -> None:
    weak = Principal(new_id(), new_id(), "user", frozenset({"chat:read"}), ("viewer",))
    key = platform.peers.directory.give_key(weak)

    answer = await platform.get("/api/v1/me", authorization=f"Bearer {key}")

    content = await answer.json()
    assert (content["tenant_id"], content["subject"]) == (weak.tenant_id, weak.subject)
    assert (content["permissions"], content["roles"]) == (["chat:read"], ["viewer"])
    assert content["user"] is None
