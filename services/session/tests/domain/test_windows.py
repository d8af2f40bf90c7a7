"""Windows: what they hold after each step, and what they can be asked for."""

from datetime import UTC, datetime, timedelta

import pytest

from meshwright_session.domain.context_schema import ContextSchema
from meshwright_session.domain.errors import ContextSchemaUnknown
from meshwright_session.domain.models import Context, StoredMessage
from meshwright_session.domain.windows import WINDOW_MESSAGES, Stamp, Window

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(sequence: int) -> StoredMessage:
    moment = NOON + timedelta(seconds=sequence)
    return StoredMessage(f"m{sequence}", "s", sequence, None, b"said", moment)


def window(first: int, last: int, *, reaches_back: bool = False) -> Window:
    return Window(
        Stamp(last, 0, NOON + timedelta(seconds=last)),
        tuple(message(sequence) for sequence in range(first, last + 1)),
        Context("s", 0, {}, None),
        reaches_back=reaches_back,
    )


def sequences(found: Window | tuple[StoredMessage, ...] | None) -> list[int] | None:
    if found is None:
        return None
    messages = found.messages if isinstance(found, Window) else found
    return [one.sequence for one in messages]


def test_window_that_moves_on_keeps_the_newest() -> None:
    moved = window(1, 199, reaches_back=True)
    for sequence in (200, 201):
        moved = moved.moved_on(Stamp(sequence, 0, NOON), [message(sequence)])
        assert (sequence == 200) == moved.reaches_back
    assert list(range(2, 202)) == sequences(moved)
    assert WINDOW_MESSAGES == len(moved.messages)


@pytest.mark.parametrize(
    ("sequence", "count", "found"),
    [
        (9, 3, [7, 8, 9]),
        (7, 2, [6, 7]),
        (6, 2, [5, 6]),
        (6, 3, None),
        (9, 200, None),
        (4, 1, None),
    ],
)
def test_older_messages_than_it_has_are_not_made_up(
    sequence: int, count: int, found: list[int] | None
) -> None:
    assert found == sequences(window(5, 9).up_to(sequence, count))


def test_window_with_the_oldest_message_answers_for_any_count() -> None:
    """Also when the first messages are gone because their months are."""
    assert [5, 6, 7] == sequences(window(5, 9, reaches_back=True).up_to(7, 200))
    assert [1, 2] == sequences(window(1, 3).up_to(2, 200))


def test_older_schema_is_upgraded_step_by_step() -> None:
    schema = ContextSchema(
        3, {1: lambda data: {**data, "two": True}, 2: lambda data: {"three": data}}
    )
    assert {"three": {"a": 1, "two": True}} == schema.read({"a": 1}, 1)
    assert {"three": {"a": 1}} == schema.read({"a": 1}, 2)
    assert {"a": 1} == schema.read({"a": 1}, 3)


def test_schema_from_the_future_is_refused() -> None:
    with pytest.raises(ContextSchemaUnknown) as caught:
        ContextSchema().read({}, 2)
    assert {"schema": "2", "known": "1"} == caught.value.metadata


def test_schema_without_a_step_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs an upgrade"):
        ContextSchema(3, {2: dict})
