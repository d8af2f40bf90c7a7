"""Fixtures of the orchestrator's tests."""

import pytest
import pytest_asyncio
import structlog

from meshwright_common.testing.engines import DatabaseSettingsFor
from services.orchestrator.tests.mesh import Mesh


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Tracebacks with all locals, structlog's default, take seconds: longer than a lease here."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )


@pytest_asyncio.fixture
async def mesh(database_settings: DatabaseSettingsFor) -> Mesh:
    """A mesh on a fresh database."""
    return Mesh(await database_settings("meshwright_orchestrator"))
