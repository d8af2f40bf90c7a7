"""The difference of two versions: it leads from one to the other, and is never dear."""

import random

import jsonpatch
import orjson
import pytest

from meshwright_session.domain.models import JsonObject
from meshwright_session.wire.contexts import json_patch

DICE = random.Random(11)  # noqa: S311 -- the same each time


def value(depth: int) -> object:
    kind = DICE.randrange(7 if depth else 5)
    if kind == 5:
        return [value(depth - 1) for _ in range(DICE.randrange(6))]
    if kind == 6:
        return document(depth - 1)
    return (None, True, DICE.randrange(3), 1.5, DICE.choice("ab/~é"))[kind]


def document(depth: int = 3) -> dict[str, object]:
    return {DICE.choice(("a", "b", "x/y", "~", "")): value(depth) for _ in range(4)}


def test_difference_of_any_two_documents_leads_from_one_to_the_other() -> None:
    for _ in range(300):
        before, after = document(), document()
        assert led(before, after) == orjson.dumps(after, option=orjson.OPT_SORT_KEYS)


def led(before: JsonObject, after: JsonObject) -> bytes:
    """Return what the patch makes of `before`: as text, in which 1 and true differ."""
    patch = jsonpatch.JsonPatch(orjson.loads(json_patch(before, after)))
    return orjson.dumps(patch.apply(dict(before), in_place=True), option=orjson.OPT_SORT_KEYS)


def test_small_change_deep_inside_is_a_small_patch() -> None:
    before = {"a": {"list": [*range(100)], "b": {"c": "x"}}, "same": "y" * 10_000}
    after = {"a": {"list": [*range(100)], "b": {"c": "z"}}, "same": "y" * 10_000}
    assert orjson.loads(json_patch(before, after)) == [
        {"op": "replace", "path": "/a/b/c", "value": "z"}
    ]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("members", [1, 30, 20_000])
def test_largest_contexts_that_differ_everywhere_are_compared_in_time(members: int) -> None:
    """Compared to their depths, they would take some ten seconds of a whole core."""
    numbers = 34_000 // members
    before, after = (
        {str(name): [DICE.randrange(10**6) for _ in range(numbers)] for name in range(members)}
        for _ in range(2)
    )
    assert led(before, after) == orjson.dumps(after, option=orjson.OPT_SORT_KEYS)
