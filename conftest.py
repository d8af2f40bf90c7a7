"""Fixtures for the tests of every member."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import structlog

# Real engines: postgres_server, service_database, redis_settings, kafka_server … (see the modules).
pytest_plugins = ["meshwright_common.testing.engines", "meshwright_common.testing.production"]

DOCUMENTS = Path(__file__).parent / "infra" / "dev" / "documents.sh"


# Logs of code that runs in the tests' own process. By default structlog draws each exception with
# all variables of all its frames, which takes a second or more.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


@pytest.fixture(scope="session")
def sample_documents() -> Path:
    """Return the folder of real manuals that nobody here wrote; fetch them at the first use.

    What is in it stands in infra/dev/documents.sh: a long PDF in English and in Chinese, a manual
    of HTML pages, a Chinese text.
    """
    done = subprocess.run([DOCUMENTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
