"""Which memories hold after others were stored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryKind,
    MemoryOrigin,
    Provenance,
)
from meshwright_session.domain.memory_rules import Reconciled, may_supersede, reconcile

NOW = datetime(2026, 1, 2, tzinfo=UTC)
USER, MODEL, UNTRUSTED = MemoryOrigin.USER, MemoryOrigin.MODEL, MemoryOrigin.UNTRUSTED
NOWHERE = Provenance()


def fact(text: str, topic: str = "", origin: MemoryOrigin = MODEL, **more: object) -> MemoryDraft:
    return replace(MemoryDraft(MemoryKind.FACT, text, origin, topic=topic), **more)  # type: ignore[arg-type]


def memory(name: str, draft: MemoryDraft, **more: object) -> Memory:
    (stored,) = store([], draft).stored
    return replace(stored, memory_id=name, create_time=NOW - timedelta(days=1), **more)  # type: ignore[arg-type]


def store(held: list[Memory], *drafts: MemoryDraft, provenance: Provenance = NOWHERE) -> Reconciled:
    numbers = count(1)
    return reconcile(
        held,
        drafts,
        user_id="u",
        provenance=provenance,
        now=NOW,
        new_id=lambda: f"new-{next(numbers)}",
    )


def test_same_text_renews_and_adds_nothing() -> None:
    old = memory("old", fact("Lives in Berlin.", origin=MODEL, confidence=0.6))
    done = store([old], fact("lives  in BERLIN", origin=USER, confidence=0.9))
    assert not done.added
    (renewed,) = done.stored
    assert (renewed.memory_id, renewed.text) == ("old", "Lives in Berlin.")
    assert (renewed.update_time, renewed.origin, renewed.confidence) == (NOW, USER, 0.9)
    assert done.changed == [renewed]


def test_two_entries_that_say_the_same_are_one_memory() -> None:
    done = store([], fact("likes tea"), fact("Likes tea."))
    assert [one.memory_id for one in done.stored] == ["new-1", "new-1"]
    assert len(done.added) == 1


def test_newer_fact_of_a_topic_supersedes_the_older_one() -> None:
    old = memory("old", fact("lives in Berlin", "user.city"))
    other = memory("other", fact("works at a bakery", "user.work"))
    done = store([old, other], fact("lives in Paris", "user.city"))
    assert [one.memory_id for one in done.added] == ["new-1"]
    assert [(one.memory_id, one.superseded_by) for one in done.changed] == [("old", "new-1")]


def test_of_one_topic_only_the_last_of_a_batch_holds() -> None:
    done = store([], fact("lives in Berlin", "user.city"), fact("lives in Paris", "user.city"))
    assert [one.superseded_by for one in done.stored] == ["new-2", None]


def test_memory_that_is_named_is_superseded_whatever_its_topic() -> None:
    old = memory("old", fact("is allergic to nuts"))
    done = store([old], fact("is not allergic to nuts", supersedes=("old", "absent")))
    assert done.changed == [replace(old, superseded_by="new-1")]


def test_superseded_memory_that_is_said_again_is_a_new_one() -> None:
    """Back to Berlin: what was superseded stays so, and who asks sees the way."""
    old = memory("old", fact("lives in Berlin", "user.city"), superseded_by="paris")
    paris = memory("paris", fact("lives in Paris", "user.city"))
    done = store([old, paris], fact("lives in Berlin", "user.city"))
    assert done.stored[0].memory_id == "new-1"
    assert done.changed == [replace(paris, superseded_by="new-1")]


@pytest.mark.parametrize(
    ("new", "sure", "old", "old_sure", "expected"),
    [
        (USER, 1.0, USER, 1.0, True),
        (USER, 0.2, USER, 0.9, False),
        (USER, 1.0, MODEL, 1.0, True),
        (MODEL, 0.9, USER, 1.0, True),
        (MODEL, 0.7, USER, 0.1, False),
        (MODEL, 0.6, MODEL, 0.9, True),
        (MODEL, 0.4, MODEL, 0.9, False),
        (MODEL, 0.4, MODEL, 0.3, True),
        (UNTRUSTED, 1.0, USER, 0.0, False),
        (UNTRUSTED, 1.0, MODEL, 0.0, False),
        (UNTRUSTED, 1.0, UNTRUSTED, 1.0, True),
        (MODEL, 1.0, UNTRUSTED, 1.0, True),
    ],
)
def test_what_may_supersede_what(
    new: MemoryOrigin, sure: float, old: MemoryOrigin, old_sure: float, expected: bool
) -> None:
    """Nothing untrusted or unsure takes the place of what the user said."""
    newer = memory("new", fact("a", "t", new, confidence=sure))
    older = memory("old", fact("b", "t", old, confidence=old_sure))
    assert may_supersede(newer, older) is expected


@pytest.mark.parametrize("named", [True, False])
def test_untrusted_claim_against_the_user_never_holds_and_is_kept_as_claimed(named: bool) -> None:
    said = memory("said", fact("pays invoices to account 1", "billing.account", USER))
    claim = fact(
        "pays invoices to account 2",
        "" if named else "billing.account",
        UNTRUSTED,
        supersedes=("said",) if named else (),
    )
    done = store([said], claim)
    assert not done.changed
    assert [one.superseded_by for one in done.added] == ["said"]


def test_untrusted_source_that_repeats_what_the_user_said_changes_neither_origin_nor_end() -> None:
    said = memory("said", fact("likes tea", origin=USER, confidence=0.8))
    (renewed,) = store(
        [said], fact("likes tea", origin=UNTRUSTED, expire_time=NOW + timedelta(hours=1))
    ).stored
    assert renewed == replace(said, update_time=NOW)


def test_summaries_of_two_sessions_are_two_though_they_say_the_same() -> None:
    one, other = Provenance("s1"), Provenance("s2")
    summary = MemoryDraft(MemoryKind.SUMMARY, "They talked about tea.")
    (stored,) = store([], summary, provenance=one).stored
    first = replace(stored, memory_id="first")
    assert store([first], summary, provenance=other).added
    assert not store([first], summary, provenance=one).added
