"""Straight at the gRPC ports: every method refuses whoever brings no good token (S-17…S-27)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshwright_common.identity.keys import load_keys
from meshwright_common.ids import new_id
from meshwright_common.rpc import methods
from tests.platform_process import Platform
from tests.security.grpc_doors import (
    Channels,
    Door,
    Metadata,
    base64url,
    doors,
    not_refused,
    plain_channels,
    segment,
)
from tests.tenants import new_tenant

DOORS: Final = doors()
UNAUTHENTICATED: Final = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED: Final = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def channels(platform: Platform) -> Iterator[Channels]:
    with plain_channels(platform) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(platform: Platform) -> Ed25519PrivateKey:
    """The gateway's own key: with it, only the claims can be wrong."""
    return load_keys(platform.data / "keys", ["gateway"]).private_key("gateway")


def claims(**changed: object) -> dict[str, object]:
    """Return the claims of a token that would be good for everything but what was changed."""
    now = int(time.time())
    every = sorted({door.permission for door in DOORS})
    good: dict[str, object] = {
        "iss": "gateway",
        "aud": "meshwright",
        "sub": new_id(),
        "tid": new_id(),
        "kind": "service",
        "perms": every,
        "roles": [],
        "iat": now,
        "exp": now + 60,
        "jti": new_id(),
    }
    return good | changed


def signed(key: Ed25519PrivateKey, content: dict[str, object], **header: object) -> Metadata:
    """Return the metadata of a signed token; `header` is added to what services write."""
    token = jwt.encode(
        content, key, "EdDSA", headers={"kid": "gateway", "typ": "mesh+jwt"} | header
    )
    return bearer(token)


def bearer(token: str) -> Metadata:
    return [("authorization", f"Bearer {token}")]


def unsigned(algorithm: str, signature: bytes = b"", **header: object) -> Metadata:
    head = segment({"alg": algorithm, "kid": "gateway", "typ": "mesh+jwt"} | header)
    return bearer(f"{head}.{segment(claims())}.{base64url(signature)}")


def test_the_claims_of_these_tests_would_be_good(
    channels: Channels, key: Ed25519PrivateKey
) -> None:
    listing = next(door for door in DOORS if door.path.endswith("/ListTools"))
    assert listing.call(channels["tool-exec"], signed(key, claims())) is None


@pytest.mark.promise("DOOR-01")
def test_no_method_answers_without_a_credential(channels: Channels) -> None:
    assert not_refused(channels, [], UNAUTHENTICATED, DOORS) == []


@pytest.mark.promise("DOOR-01")
def test_no_method_takes_claims_of_identity_beside_the_token(channels: Channels) -> None:
    claimed = [
        ("x-tenant-id", new_id()),
        ("x-user-id", new_id()),
        ("x-role", "owner"),
        ("x-forwarded-user", "root"),
        ("x-api-key", "mw_something"),
    ]
    assert not_refused(channels, claimed, UNAUTHENTICATED, DOORS) == []


@pytest.mark.promise("DOOR-02")
@pytest.mark.parametrize(
    "changed",
    [
        {"iat": 1_700_000_000, "exp": 1_700_000_060},
        {"aud": "another"},
        {"aud": ["meshwright"]},
        {"iss": "session"},
        {"exp": 4_000_000_000},
        {"exp": 1e308},
        {"exp": "soon"},
        {"kind": "user"},
        {"kind": "root"},
        {"tid": "*"},
        {"nbf": 0},
    ],
    ids=lambda changed: "-".join(f"{name}={value}" for name, value in changed.items()),
)
def test_no_method_takes_a_token_with_wrong_claims(
    channels: Channels, key: Ed25519PrivateKey, changed: dict[str, object]
) -> None:
    metadata = signed(key, claims(**changed))
    assert not_refused(channels, metadata, UNAUTHENTICATED, one_of_each_service()) == []


@pytest.mark.promise("DOOR-02")
def test_no_method_takes_an_expired_token_or_one_of_a_foreign_key(
    channels: Channels, key: Ed25519PrivateKey
) -> None:
    past = int(time.time()) - 120
    expired = signed(key, claims(iat=past, exp=past + 60))
    assert not_refused(channels, expired, UNAUTHENTICATED, DOORS) == []
    foreign = signed(Ed25519PrivateKey.generate(), claims())
    assert not_refused(channels, foreign, UNAUTHENTICATED, DOORS) == []


@pytest.mark.promise("DOOR-02")
def test_no_header_of_a_token_chooses_how_it_is_verified(
    platform: Platform, channels: Channels, key: Ed25519PrivateKey
) -> None:
    public = load_keys(platform.data / "keys", ()).trusted["gateway"]
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    stranger = Ed25519PrivateKey.generate()
    own = {"kty": "OKP", "crv": "Ed25519", "x": base64url(stranger.public_key().public_bytes_raw())}
    tried: list[Metadata] = [unsigned(name) for name in ("none", "None", "nOnE", "", "EdDSA")]
    tried += [hs256(secret) for secret in (pem, raw, b"")]
    tried += [
        signed(stranger, claims(), **header)
        for header in (
            {"jwk": own},
            {"jku": "http://127.0.0.1:9/keys"},
            {"x5u": "http://127.0.0.1:9/"},
            {"kid": "../../dev/null"},
            {"kid": "' OR 1=1 --"},
            {"kid": "k" * 1000},
            {"crit": ["b64"], "b64": False},
        )
    ]
    # Signed by a service that is trusted, in the name of another one.
    tried.append(signed(key, claims(iss="session"), kid="session"))
    tried += [bearer(token) for token in ("", "x", "a.b", "a.b.c", ".." * 100, "e30.e30.")]
    for metadata in tried:
        assert not_refused(channels, metadata, UNAUTHENTICATED, one_of_each_service()) == []


def hs256(secret: bytes) -> Metadata:
    head = segment({"alg": "HS256", "kid": "gateway", "typ": "mesh+jwt"})
    signing_input = f"{head}.{segment(claims())}"
    signature = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    return bearer(f"{signing_input}.{base64url(signature)}")


@pytest.mark.promise("DOOR-03")
def test_two_authorizations_are_refused_whatever_they_are(
    channels: Channels, key: Ed25519PrivateKey
) -> None:
    good = signed(key, claims())
    for metadata in (
        [*good, *good],
        [*good, ("authorization", "Bearer x")],
        [("authorization", "Basic eDp5"), *good],
    ):
        assert not_refused(channels, metadata, UNAUTHENTICATED, DOORS) == []


@pytest.mark.promise("DOOR-04")
def test_the_token_of_an_owner_opens_nothing_that_is_for_services_alone(
    platform: Platform, channels: Channels
) -> None:
    internal = [door for door in DOORS if door.permission == "mesh:internal"]
    assert internal
    metadata = token_of(platform, new_tenant(platform).api_key)
    assert not_refused(channels, metadata, PERMISSION_DENIED, internal) == []


@pytest.mark.promise("DOOR-04")
def test_a_token_without_permissions_opens_no_method(
    channels: Channels, key: Ed25519PrivateKey
) -> None:
    nobody = signed(key, claims(kind="user", perms=[]))
    assert not_refused(channels, nobody, PERMISSION_DENIED, DOORS) == []


@pytest.mark.promise("DOOR-04")
def test_a_viewer_changes_nothing(platform: Platform, channels: Channels) -> None:
    with platform.client(new_tenant(platform).api_key) as owner:
        viewer = owner.post("/api/v1/users", json={"name": "eye", "roles": ["viewer"]}).json()
        made = owner.post("/api/v1/api-keys", json={"user_id": viewer["user_id"]}).json()
    with platform.client(made["secret"]) as client:
        held = set(client.get("/api/v1/me").json()["permissions"])
    assert {permission for permission in held if not permission.endswith(":read")} == set()
    beyond = [door for door in DOORS if door.permission not in held]
    metadata = token_of(platform, made["secret"])
    assert not_refused(channels, metadata, PERMISSION_DENIED, beyond) == []


@pytest.mark.promise("DOOR-05")
@pytest.mark.parametrize(
    "path",
    [
        "meshwright.model_router.v1.ModelService/ListModels",
        "//meshwright.model_router.v1.ModelService/ListModels",
        "/meshwright.model_router.v1.ModelService/listmodels",
        "/meshwright.model_router.v1.ModelService/%4cistModels",
        "/meshwright.model_router.v1.ModelService/ListModels/",
        "/meshwright.model_router.v1.ModelService/ListModels?x",
        "/meshwright.model_router.v1.ModelService/",
        "/grpc.health.v1.Health/../meshwright.model_router.v1.ModelService/ListModels",
    ],
)
def test_a_path_spelt_otherwise_leads_nowhere(
    channels: Channels, key: Ed25519PrivateKey, path: str
) -> None:
    listing = next(door for door in DOORS if door.path.endswith("/ListModels"))
    for metadata in ([], signed(key, claims())):
        refusal = listing.call(channels["model-router"], metadata, path=path)
        assert refusal is not None
        assert refusal.code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


@pytest.mark.promise("DOOR-06")
def test_messages_that_are_too_large_or_no_messages_are_refused(
    channels: Channels, key: Ed25519PrivateKey
) -> None:
    good = signed(key, claims())
    for door in DOORS:
        refusal = door.call(channels[door.service], good, request=b"\xff\xff\xff")
        assert refusal is not None, door.path
        assert "Traceback" not in refusal.text
        assert "meshwright_" not in refusal.text, door.path
    for door in one_of_each_service():
        refusal = door.call(channels[door.service], good, request=bytes(4 * 1024 * 1024 + 1))
        assert refusal is not None
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.promise("DOOR-07")
def test_methods_of_later_versions_say_so(channels: Channels, key: Ed25519PrivateKey) -> None:
    later = [door for door in DOORS if not_yet_served(door)]
    assert later
    good = signed(key, claims())
    assert not_refused(channels, good, grpc.StatusCode.UNIMPLEMENTED, later) == []
    for door in later:
        refusal = door.call(channels[door.service], good)
        assert refusal is not None
        assert refusal.text == f"this version does not serve {door.path} yet"


def not_yet_served(door: Door) -> bool:
    facts = methods.method(door.path)
    assert facts is not None
    return facts.not_yet_served


def one_of_each_service() -> list[Door]:
    """Return one method of every gRPC service: all of one service verify in the same place."""
    return list({door.path.partition("/")[2].partition("/")[0]: door for door in DOORS}.values())


def token_of(platform: Platform, api_key: str) -> Metadata:
    """Exchange an API key for a token at the gateway."""
    with platform.client(api_key) as client:
        answer: dict[str, Any] = client.post(
            "/api/v1/auth/token", json={"grant_type": "api_key"}
        ).json()
    return bearer(answer["access_token"])
