"""Fixtures of the tests that attack a running platform."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.platform_process import Platform
from tests.tenants import new_tenant


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh
