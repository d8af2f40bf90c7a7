"""Page tokens go back to where they came from, and nowhere else."""

from datetime import UTC, datetime

import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_session.domain import paging

SCOPE = ("tenant", "user", "messages", "session", "newest")
MOMENT = datetime(2026, 3, 10, 12, 0, 0, 123456, tzinfo=UTC)


def test_token_brings_back_its_position() -> None:
    position = (paging.microseconds(MOMENT), "id", 3)
    token = paging.encode(SCOPE, position)
    assert paging.decode(SCOPE, token, (int, str, int)) == position
    assert paging.moment(position[0]) == MOMENT


def test_no_token_is_the_beginning() -> None:
    assert paging.decode(SCOPE, "", (int,)) is None


@pytest.mark.parametrize("place", range(len(SCOPE)))
def test_token_of_another_list_is_refused(place: int) -> None:
    token = paging.encode(SCOPE, (1,))
    other = (*SCOPE[:place], "other", *SCOPE[place + 1 :])
    with pytest.raises(InvalidArgument):
        paging.decode(other, token, (int,))


def test_parts_of_a_scope_do_not_run_together() -> None:
    token = paging.encode(("a", "bc"), (1,))
    with pytest.raises(InvalidArgument):
        paging.decode(("ab", "c"), token, (int,))


@pytest.mark.parametrize(
    "token", ["!", "AAAA", "é", "A" * 2000, paging.encode(SCOPE, (1, "x")), "\0"]
)
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        paging.decode(SCOPE, token, (int,))


@pytest.mark.parametrize(
    ("position", "shape"), [((1 << 70,), (int,)), (("a\0",), (str,)), ((True,), (int,))]
)
def test_made_up_position_that_no_store_could_compare_with_is_refused(
    position: paging.Position, shape: tuple[type[int] | type[str], ...]
) -> None:
    with pytest.raises(InvalidArgument):
        paging.decode(SCOPE, paging.encode(SCOPE, position), shape)


@pytest.mark.parametrize("size", [-1, 201, 1 << 30])
def test_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument):
        paging.page_request(size, "")


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (200, 200)])
def test_size_in_range_is_taken(asked: int, given: int) -> None:
    assert paging.page_request(asked, "").size == given


@pytest.mark.parametrize(
    ("rows", "page", "last"), [([1, 2, 3], (1, 2), 2), ([1, 2], (1, 2), None), ([], (), None)]
)
def test_page_has_a_last_row_only_when_more_follow(
    rows: list[int], page: tuple[int, ...], last: int | None
) -> None:
    assert paging.cut(rows, 2) == (page, last)
