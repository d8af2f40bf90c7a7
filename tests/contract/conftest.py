"""Fixtures of the contract suites."""

from __future__ import annotations

import pytest

from meshwright_common.testing.mesh import SUBSTRATES, Substrate


@pytest.fixture(params=SUBSTRATES)
def substrate(request: pytest.FixtureRequest) -> Substrate:
    """Every way in which a call reaches its servicer, one after the other."""
    chosen: Substrate = request.param
    return chosen
