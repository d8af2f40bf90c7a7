"""R-24: refused logins and denied calls are counted, and nobody floods the log with them."""

from dataclasses import replace

from meshwright_common.identity.denials import MOST_KINDS, MOST_OF_ONE, DenialKind, Denials

LOGIN = DenialKind("login.refused", resource="http", reason="refused", address="10.0.0.1")
CALL = DenialKind("permission.denied", tenant_id="t", actor="u", resource="rpc/x", reason="a:b")


def test_the_same_denial_is_one_record_with_a_count() -> None:
    denials = Denials()
    for _ in range(1000):
        denials.note(LOGIN)
    denials.note(CALL)
    login, call = denials.take()
    assert (login.kind, login.count) == (LOGIN, 1000)
    assert (call.kind, call.count) == (CALL, 1)
    assert login.first_time <= login.last_time
    assert denials.take() == ()


def test_one_source_has_a_share_of_the_kinds_and_loses_no_count() -> None:
    denials = Denials()
    for number in range(10_000):
        denials.note(replace(CALL, resource=f"rpc/{number}", actor=f"u{number}"))
    denials.note(LOGIN)
    taken = denials.take()
    assert len(taken) == MOST_OF_ONE + 2
    assert sum(one.count for one in taken) == 10_001
    assert LOGIN in {one.kind for one in taken}


def test_many_sources_together_are_bounded_too() -> None:
    denials = Denials()
    for number in range(10_000):
        denials.note(replace(LOGIN, address=f"10.{number}"))
    taken = denials.take()
    assert len(taken) == MOST_KINDS + 1
    assert sum(one.count for one in taken) == 10_000
