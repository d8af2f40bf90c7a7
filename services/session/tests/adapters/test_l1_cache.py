"""Level 1: bounded in bytes, kept by how often it is asked for, never moved back."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from meshwright_session.adapters.frequency_sketch import FrequencySketch
from meshwright_session.adapters.l1_cache import L1Cache
from meshwright_session.domain.models import Context, StoredMessage
from meshwright_session.domain.windows import SessionKey, Stamp, Window

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MEGABYTE = 1024 * 1024


def key(number: int, tenant: str = "t") -> SessionKey:
    return SessionKey(tenant, f"s{number}")


def window(size: int = 10_000, second: int = 0) -> Window:
    moment = NOON + timedelta(seconds=second)
    said = StoredMessage("m", "s", 1, None, bytes(size), moment)
    return Window(Stamp(1, 0, moment), (said,), Context("s", 0, {}, None))


def cache(max_bytes: int = MEGABYTE, clock: list[float] | None = None) -> L1Cache:
    now = clock or [0.0]
    return L1Cache(max_bytes, 60, lambda: now[0])


def test_it_never_holds_more_bytes_than_it_may() -> None:
    kept = cache()
    dice = random.Random(7)  # noqa: S311 -- the same each time
    for _ in range(3000):
        chosen = key(dice.randrange(500))
        kept.get(chosen)
        kept.put(chosen, window(dice.randrange(1, 60_000)))
        assert kept.size_bytes <= MEGABYTE
    held = [kept.get(key(number)) for number in range(500)]
    assert kept.size_bytes == sum(one.size_bytes for one in held if one is not None)
    assert kept.size_bytes > MEGABYTE / 2


def test_sessions_in_use_survive_a_round_over_many_others() -> None:
    kept = cache()
    working = [key(number) for number in range(60)]
    for turn in range(5):
        for one in working:
            kept.get(one)
            kept.put(one, window(second=turn))
    for number in range(1000, 6000):
        kept.get(key(number))
        kept.put(key(number), window())
    survived = sum(kept.get(one) is not None for one in working)
    assert survived >= 54


def test_what_was_popular_once_makes_room_for_what_is_now() -> None:
    kept = cache()
    for turn in range(10):
        for number in range(80):
            kept.get(key(number))
            kept.put(key(number), window(second=turn))
    for turn in range(60):
        for number in range(100, 180):
            kept.get(key(number))
            kept.put(key(number), window(second=turn))
    assert sum(kept.get(key(number)) is not None for number in range(100, 180)) >= 60


def test_window_too_large_for_its_share_is_not_kept_and_replaces_the_old_one() -> None:
    kept = cache()
    kept.put(key(1), window())
    kept.put(key(1), window(100_000, second=1))
    assert kept.get(key(1)) is None
    assert 0 == kept.size_bytes


def test_later_answer_of_an_earlier_transaction_does_not_move_it_back() -> None:
    kept = cache()
    newer = window(second=2)
    kept.put(key(1), newer)
    kept.put(key(1), window(second=1))
    assert kept.get(key(1)) is newer


def test_session_nobody_uses_is_forgotten() -> None:
    clock = [0.0]
    kept = cache(clock=clock)
    kept.put(key(1), window())
    clock[0] = 59.0
    assert kept.get(key(1)) is not None
    clock[0] = 61.0
    assert kept.get(key(1)) is None
    assert 0 == len(kept)


def test_tenant_is_forgotten_whole_and_no_other() -> None:
    kept = cache()
    for number in range(5):
        kept.put(key(number), window())
        kept.put(key(number, "other"), window())
    kept.drop_tenant("t")
    assert [None] * 5 == [kept.get(key(number)) for number in range(5)]
    assert all(kept.get(key(number, "other")) is not None for number in range(5))
    assert 5 * window().size_bytes == kept.size_bytes


def test_sketch_never_counts_too_little_and_forgets() -> None:
    sketch = FrequencySketch(256)
    for number in range(100):
        for _ in range(number % 8):
            sketch.add(number)
    assert all(sketch.count(number) >= number % 8 for number in range(100))
    exact = sum(sketch.count(number) == number % 8 for number in range(100))
    assert exact >= 90
    for number in range(10_000, 16_000):
        sketch.add(number)
    assert sketch.count(7) < 7


def test_size_grows_with_messages_and_context() -> None:
    small = window(100)
    assert window(1100).size_bytes - small.size_bytes == 1000
    assert replace(small, context_bytes=100).size_bytes > small.size_bytes
