"""Parts of a checkpoint: joined to what they are together, and no more."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshwright_common.encryption import TenantKeys
from meshwright_common.ids import new_id
from meshwright_session.adapters.checkpoint_cells import (
    opened_window,
    sealed_context,
    sealed_part,
)
from meshwright_session.domain.models import Context, StoredMessage
from meshwright_session.domain.windows import SessionKey, Stamp, Window
from meshwright_session.wire import checkpoints

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SessionKey(new_id(), new_id())
KEYS = TenantKeys(KEY.tenant_id, 1, {1: AESGCM(os.urandom(32))}, os.urandom(32))


def window(first: int, last: int, *, reaches_back: bool = False) -> Window:
    """Return a window whose context has the version and data of its last message."""
    moment = NOON + timedelta(microseconds=last)
    return Window(
        Stamp(last, last, moment),
        tuple(
            StoredMessage(
                new_id(), KEY.session_id, number, None, b"said", NOON + timedelta(seconds=number)
            )
            for number in range(first, last + 1)
        ),
        Context(KEY.session_id, last, {"n": last}, moment),
        data_version=last,
        context_bytes=9,
        reaches_back=reaches_back,
    )


def opened(whole: Window, *turns: tuple[Window, int], context: Window | None = None) -> Window:
    """Return what comes back of a checkpoint, and turns added behind a sequence."""
    newest = turns[-1][0] if turns else whole
    found = opened_window(
        KEYS,
        KEY,
        1,
        sealed_part(KEYS, KEY, "window", checkpoints.encode(whole, 0)),
        [sealed_part(KEYS, KEY, "turns", checkpoints.encode(turn, after)) for turn, after in turns],
        sealed_context(KEYS, KEY, 1, context or newest),
    )
    assert found is not None
    return found


def numbers(found: Window) -> list[int]:
    return [message.sequence for message in found.messages]


def test_window_comes_back_as_it_was() -> None:
    whole = window(3, 9)
    assert opened(whole) == whole


def test_turns_are_added_in_any_order_and_over_each_other() -> None:
    first, second, third = window(1, 6), window(1, 8), window(1, 11)
    found = opened(window(1, 4), (second, 6), (first, 4), (third, 5))
    assert numbers(found) == [*range(1, 12)]
    assert (found.stamp, found.context.data) == (third.stamp, {"n": 11})


def test_turn_that_does_not_reach_the_others_is_left_out() -> None:
    found = opened(window(1, 4), (window(1, 9), 6), context=window(1, 4))
    assert numbers(found) == [1, 2, 3, 4]
    assert found.stamp == window(1, 4).stamp


@pytest.mark.parametrize("reaches_back", [True, False])
def test_older_messages_are_denied_only_by_the_checkpoint_itself(reaches_back: bool) -> None:
    """Whoever added a turn had them; here they are not."""
    whole = window(5, 9, reaches_back=reaches_back)
    found = opened(whole, (window(1, 11, reaches_back=True), 9))
    assert found.reaches_back == reaches_back
    assert (found.up_to(11, 200) is None) == (not reaches_back)


def test_context_of_another_version_fits_no_stamp() -> None:
    found = opened(window(1, 4), (window(1, 6), 4), context=window(1, 4))
    assert found.stamp == replace(window(1, 6).stamp, context_version=-1)
