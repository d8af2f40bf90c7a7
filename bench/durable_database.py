"""The platform's PostgreSQL with all its tables, durable, for parts that are measured alone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshwright_cli.engines.schema import prepare_database
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import DATABASE
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres


@contextmanager
def durable_database(scratch: Path) -> Iterator[DatabaseSettings]:
    """Run it below `scratch` until left; give what services connect with."""
    with durable_server(scratch) as (settings, _):
        yield settings


@contextmanager
def durable_server(scratch: Path) -> Iterator[tuple[DatabaseSettings, str]]:
    """Do so, and give the superuser's URL besides, for filling tables fast."""
    password = secrets.token_urlsafe(16)
    postgres = EmbeddedPostgres(scratch / "pg", password=password, log=scratch / "pg.log")
    postgres.start()
    try:
        login = f"meshwright_{{service}}:{password}@127.0.0.1:{postgres.port}"
        settings = DatabaseSettings(url=f"postgresql://{login}/{DATABASE}")
        asyncio.run(prepare_database(postgres.url(), settings, password=password))
        yield settings, postgres.url(DATABASE)
    finally:
        postgres.stop()
