"""A trace kept with work that is done later."""

from __future__ import annotations

import pytest

from meshwright_common.context import CallContext
from meshwright_common.kept_trace import joined, parted

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("state", ["", "a=1", "a=1, b=with blanks in it"])
def test_parent_and_state_come_back_as_they_were_kept(state: str) -> None:
    assert (PARENT, state) == parted(joined(PARENT, state))
    assert joined(PARENT, state) == CallContext(traceparent=PARENT, tracestate=state).trace


def test_a_state_without_a_parent_is_of_no_trace() -> None:
    assert "" == joined("", "a=1")
    assert ("", "") == parted("")
