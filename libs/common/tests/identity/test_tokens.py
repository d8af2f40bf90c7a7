"""Internal tokens against the attacks of the security matrix (S-17 to S-21, S-25)."""

import base64
import json
import time
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from meshwright_common.clock import ManualClock
from meshwright_common.context import MESH_INTERNAL, Principal
from meshwright_common.errors import InvalidArgument, Unauthenticated
from meshwright_common.identity.keys import KeyRing, ephemeral_keys
from meshwright_common.identity.tokens import (
    LEEWAY_SECONDS,
    LIFETIME_SECONDS,
    MAX_TOKEN_BYTES,
    REUSE_SECONDS,
    TokenMinter,
    TokenVerifier,
)
from meshwright_common.ids import new_id

TENANT = new_id()
ANNA = Principal(TENANT, "anna", "user", frozenset({"kb:read", "kb:write"}), ("editor",))


@pytest.fixture(scope="module")
def keys() -> KeyRing:
    return ephemeral_keys(["chat", "rag"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def minter(keys: KeyRing, clock: ManualClock) -> TokenMinter:
    return TokenMinter("chat", keys.private_key("chat"), clock)


@pytest.fixture
def verifier(keys: KeyRing, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(keys.trusted, clock)


def segment(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refuses(verifier: TokenVerifier, token: str) -> bool:
    started = time.perf_counter()
    try:
        verifier.verify(token)
    except Unauthenticated:
        assert time.perf_counter() - started < 5
        return True
    return False


def test_token_carries_the_whole_principal(minter: TokenMinter, verifier: TokenVerifier) -> None:
    assert ANNA == verifier.verify(minter.token_for(ANNA))


def test_token_is_signed_once_and_reused_while_it_is_fresh(
    minter: TokenMinter, clock: ManualClock
) -> None:
    first = minter.token_for(ANNA)
    clock.advance(REUSE_SECONDS - 0.1)
    assert first == minter.token_for(ANNA)
    clock.advance(0.2)
    assert first != minter.token_for(ANNA)


def test_handed_out_token_has_its_whole_life_before_it(
    minter: TokenMinter, clock: ManualClock
) -> None:
    minter.token_for(ANNA)
    clock.advance(30)
    token = minter.issue(ANNA)
    assert LIFETIME_SECONDS == token.expires_in_seconds
    assert minter.token_for(ANNA) != token.value


@pytest.mark.parametrize("seen_before", [True, False])
def test_token_ends_exactly_at_expiry_and_leeway(
    minter: TokenMinter, verifier: TokenVerifier, clock: ManualClock, seen_before: bool
) -> None:
    token = minter.token_for(ANNA)
    if seen_before:
        verifier.verify(token)
    clock.advance(LIFETIME_SECONDS + LEEWAY_SECONDS - 0.5)
    assert not refuses(verifier, token)
    clock.advance(0.5)
    assert refuses(verifier, token)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "nOnE"},
        {"alg": "none", "kid": "chat", "typ": "mesh+jwt"},
        {"kid": "chat", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "chat"},
        {"alg": "EdDSA", "kid": "chat", "typ": "JWT"},
        {"alg": "EdDSA", "kid": "chat", "typ": "at+jwt"},
        {"alg": "EdDSA", "kid": "../../dev/null", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "' OR 1", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "https://evil.example/key", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "k" * 10_000, "typ": "mesh+jwt"},
        {"alg": "EdDSA", "jku": "https://evil.example", "kid": "chat", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "jwk": {"kty": "OKP"}, "kid": "chat", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "chat", "typ": "mesh+jwt", "x5u": "https://evil.example"},
        {"alg": "EdDSA", "crit": ["exp"], "kid": "chat", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "b64": False, "crit": ["b64"], "kid": "chat", "typ": "mesh+jwt"},
        {"alg": "EdDSA", "kid": "chat", "typ": "mesh+jwt", "zip": "DEF"},
        b'{"alg":"none","alg":"EdDSA","kid":"chat","typ":"mesh+jwt"}',
        b'{ "alg":"EdDSA","kid":"chat","typ":"mesh+jwt"}',
        b"not json",
    ],
)
def test_header_other_than_our_own_is_refused(
    minter: TokenMinter, verifier: TokenVerifier, keys: KeyRing, header: object
) -> None:
    """S-17, S-19, S-20: even when the signature over it is good."""
    payload = minter.token_for(ANNA).split(".")[1]
    signed = f"{segment(header)}.{payload}"
    signature = segment(keys.private_key("chat").sign(signed.encode()))
    assert refuses(verifier, f"{signed}.{signature}")
    assert refuses(verifier, f"{signed}.")


def test_public_key_is_no_shared_secret(
    minter: TokenMinter, verifier: TokenVerifier, keys: KeyRing
) -> None:
    """S-18: HS256 with what everybody knows, and a key of another kind."""
    public = keys.trusted["chat"]
    payload = minter.token_for(ANNA).split(".")[1]
    for encoding, form in (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.Raw, serialization.PublicFormat.Raw),
    ):
        for kind in ("HS256", "EdDSA"):
            signed = f"{segment({'alg': kind, 'kid': 'chat', 'typ': 'mesh+jwt'})}.{payload}"
            mac = HMAC(public.public_bytes(encoding, form), SHA256())
            mac.update(signed.encode())
            assert refuses(verifier, f"{signed}.{segment(mac.finalize())}")
    claims = jwt.decode(minter.token_for(ANNA), options={"verify_signature": False})
    foreign = rsa.generate_private_key(65537, 2048)
    headers = {"kid": "chat", "typ": "mesh+jwt"}
    assert refuses(verifier, jwt.encode(claims, foreign, "RS256", headers=headers))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "elsewhere"},
        {"aud": ["meshwright"]},
        {"aud": None},
        {"iss": "rag"},
        {"iss": "chat "},
        {"exp": 1e308},
        {"exp": "4102444800"},
        {"exp": -1},
        {"exp": 4102444800},
        {"exp": None},
        {"exp": True},
        {"iat": None},
        {"iat": 0},
        {"tid": "everything"},
        {"tid": None},
        {"sub": 7},
        {"kind": "admin"},
        {"perms": "kb:read"},
        {"perms": [1]},
        {"perms": ["kb:read", MESH_INTERNAL]},
        {"roles": None},
        {"unknown": 1},
    ],
)
def test_payload_that_is_not_exactly_ours_is_refused(
    minter: TokenMinter,
    verifier: TokenVerifier,
    keys: KeyRing,
    changes: dict[str, object],
) -> None:
    """S-21, S-25: signed with the right key, but by code that is not ours."""
    claims = jwt.decode(minter.token_for(ANNA), options={"verify_signature": False})
    changed = {key: value for key, value in {**claims, **changes}.items() if value is not None}
    headers = {"kid": "chat", "typ": "mesh+jwt"}
    token = jwt.encode({}, keys.private_key("chat"), "EdDSA", headers=headers)
    signed = f"{token.split('.')[0]}.{segment(changed)}"
    signature = segment(keys.private_key("chat").sign(signed.encode()))
    assert refuses(verifier, f"{signed}.{signature}")


def test_token_of_the_future_is_refused(keys: KeyRing, verifier: TokenVerifier) -> None:
    ahead = ManualClock()
    ahead.advance(LEEWAY_SECONDS)
    assert not refuses(
        verifier, TokenMinter("chat", keys.private_key("chat"), ahead).token_for(ANNA)
    )
    ahead.advance(60)
    assert refuses(verifier, TokenMinter("chat", keys.private_key("chat"), ahead).token_for(ANNA))


def test_token_signed_by_another_services_key_is_refused(
    keys: KeyRing, clock: ManualClock, verifier: TokenVerifier
) -> None:
    assert refuses(verifier, TokenMinter("chat", keys.private_key("rag"), clock).token_for(ANNA))


def test_every_changed_character_breaks_the_token(
    minter: TokenMinter, verifier: TokenVerifier
) -> None:
    token = minter.token_for(ANNA)
    # The last character of a segment may hold bits that nothing reads; PyJWT refuses those too.
    for at in range(0, len(token) - 1, 7):
        other = "A" if token[at] != "A" else "B"
        assert refuses(verifier, token[:at] + other + token[at + 1 :]), at
    for wrong in ("", ".", "..", token + "x", token + ".", token[:-2], token * 20, "\ud800"):
        assert refuses(verifier, wrong)


def test_user_cannot_be_given_the_permission_of_services(minter: TokenMinter) -> None:
    with pytest.raises(InvalidArgument):
        minter.token_for(Principal(TENANT, "anna", "user", frozenset({MESH_INTERNAL})))


def test_service_may_hold_the_permission_of_services(
    minter: TokenMinter, verifier: TokenVerifier
) -> None:
    service = Principal(TENANT, "chat", "service", frozenset({MESH_INTERNAL}))
    assert service == verifier.verify(minter.token_for(service))


def test_principal_that_does_not_fit_is_refused_when_minting(minter: TokenMinter) -> None:
    many = frozenset(f"permission:{number}" for number in range(200))
    with pytest.raises(InvalidArgument, match="fit"):
        minter.token_for(Principal(TENANT, "anna", "user", many))
    with pytest.raises(InvalidArgument):
        minter.token_for(Principal("no tenant", "anna", "user", frozenset()))


def test_usual_token_is_far_below_its_limit(minter: TokenMinter) -> None:
    usual = frozenset(f"resource{number}:read" for number in range(30))
    principal = Principal(TENANT, new_id(), "user", usual, ("admin",))
    assert len(minter.token_for(principal)) < MAX_TOKEN_BYTES * 0.75


def test_memory_of_tokens_is_bounded(keys: KeyRing, clock: ManualClock) -> None:
    minter = TokenMinter("chat", keys.private_key("chat"), clock)
    verifier = TokenVerifier(keys.trusted, clock)
    for number in range(4200):
        who = Principal(TENANT, f"user {number}", "user", frozenset())
        verifier.verify(minter.token_for(who))
    assert len(minter._cache) <= 4096
    assert len(verifier._cache) <= 4096
    clock.advance(timedelta(minutes=3).total_seconds())
    verifier.verify(minter.token_for(ANNA))
    assert len(minter._cache) == len(verifier._cache) == 1
