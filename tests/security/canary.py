"""A word that is looked for in all that a running platform has stored, past all its services."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import asyncpg

from meshwright_common.settings import ObjectSettings
from meshwright_common.storage.objects import ObjectNotFound, open_objects
from tests.cache import open_cache
from tests.platform_process import Platform
from tests.security.rows import stored_objects, superuser_url

# Every table that holds rows itself: partitions, not their parents.
_TABLES: Final = """
    SELECT format('%I.%I', namespace.nspname, class.relname)
    FROM pg_class class
    JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
    WHERE class.relkind = 'r' AND namespace.nspname NOT LIKE 'pg\\_%'
      AND namespace.nspname <> 'information_schema'
    ORDER BY 1
"""


def shapes(word: str, *texts: str) -> Sequence[bytes]:
    """Return the word as it may be stored, and hashes of the texts that would give them away."""
    plain = word.encode()
    encoded = [base64.b64encode(bytes(shift) + plain)[4:-4] for shift in range(3)]
    hashes = [hashlib.sha256(text.encode()).digest() for text in (word, *texts)]
    return [plain, plain.upper(), plain.hex().encode(), *encoded] + [
        shape for one in hashes for shape in (one, one.hex().encode())
    ]


async def tables_with(platform: Platform, wanted: Sequence[bytes]) -> set[str]:
    """Return the tables of which a row has one of these in any column."""
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        tables = [row[0] for row in await connection.fetch(_TABLES)]
        assert len(tables) > 30
        patterns = [f"%{text}%" for text in _as_text(wanted)]
        found = set()
        for table in tables:
            # Names come from the catalogue, quoted by it. Bytes are shown in hexadecimal.
            there = await connection.fetchval(
                f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text LIKE ANY ($1))",  # noqa: S608
                patterns,
            )
            if there:
                found.add(table)
        return found
    finally:
        await connection.close()


def _as_text(wanted: Sequence[bytes]) -> Iterator[str]:
    for one in wanted:
        yield one.hex()
        if one.isascii():
            yield one.decode()


def keys_with(platform: Platform, wanted: Sequence[bytes]) -> set[str]:
    """Return the keys of Redis whose name or value has one of these."""
    found = set()
    with open_cache(platform) as client:
        for key in client.scan_iter(count=1000):
            value = b"".join(_values(client, key))
            if any(one in key + b" " + value for one in wanted):
                found.add(key.decode(errors="replace"))
    return found


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    kind = client.type(key)
    if kind == b"string":
        yield client.get(key) or b""
    elif kind == b"stream":
        for _, fields in client.xrange(key):
            yield b" ".join(part for pair in fields.items() for part in pair)
    elif kind == b"hash":
        yield b" ".join(part for pair in client.hgetall(key).items() for part in pair)
    elif kind == b"list":
        yield from client.lrange(key, 0, -1)
    elif kind == b"set":
        yield from client.smembers(key)
    elif kind == b"zset":
        yield from client.zrange(key, 0, -1)
    else:
        assert kind == b"none", f"a key of type {kind!r} is not looked into"


async def objects_with(platform: Platform, wanted: Sequence[bytes]) -> set[str]:
    """Return the objects that have one of these."""
    url = platform.environment.get("MESHWRIGHT_OBJECTS__URL")
    endpoint = platform.environment.get("MESHWRIGHT_OBJECTS__ENDPOINT", "")
    settings = ObjectSettings(url=url or (platform.data / "objects").as_uri(), endpoint=endpoint)
    found = set()
    async with open_objects(settings) as store:
        for path in stored_objects(platform):
            key = str(path)
            # It may have been deleted since it was listed, or be no object yet.
            with contextlib.suppress(ObjectNotFound, ValueError):
                content = b"".join([chunk async for chunk in store.open(key)])
                if any(one in content for one in wanted):
                    found.add(key)
    return found


def logs_with(platform: Platform, wanted: Sequence[bytes]) -> set[str]:
    """Return the log files that have one of these."""
    files = [
        *(platform.data / "logs").iterdir(),
        platform.data.with_name(f"{platform.data.name}.out"),
    ]
    return {file.name for file in files if any(one in file.read_bytes() for one in wanted)}
