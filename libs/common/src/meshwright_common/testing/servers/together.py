"""Several servers at once: start in parallel, tell where they are, stop."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from meshwright_common.storage.embedded.process import ENGINE_THREAD, EngineFailed
from meshwright_common.testing.servers.base import Server
from meshwright_common.testing.servers.catalogue import SERVERS

FILE_NAME: Final = "engines.json"
ENGINES_VARIABLE: Final = "MESHWRIGHT_TEST_ENGINES"
"""Names the file of shared servers to tests."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is: see `Server` for the fields."""

    address: str
    variables: dict[str, str]
    pids: list[int]

    @classmethod
    def of(cls, server: Server) -> Self:
        """Return the place of a running server."""
        return cls(server.address, dict(server.variables), server.pids)


def read_places(file: Path) -> dict[str, Place]:
    """Return the servers of an engines.json by name. Raises: OSError when it is not there."""
    content = json.loads(file.read_text())
    return {name: Place(**place) for name, place in content.items()}


def write_places(file: Path, places: Mapping[str, Place]) -> None:
    """Write an engines.json for its owner alone: it is there whole or not at all."""
    building = file.with_suffix(".partial")
    building.touch(mode=0o600)
    content = {name: asdict(place) for name, place in places.items()}
    building.write_text(f"{json.dumps(content, indent=2)}\n")
    os.replace(building, file)


@contextlib.contextmanager
def running_together(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Server]]:
    """Start these servers below `folder`, all at once, and stop them in the end.

    Raises: EngineFailed with the words of each that did not start; none is left running.
    """
    file = folder / FILE_NAME
    servers = {name: SERVERS[name](folder / name) for name in names}
    # Their threads live as long as they do: a server dies with the thread that started it.
    with ThreadPoolExecutor(len(servers), thread_name_prefix=ENGINE_THREAD) as threads:
        try:
            _finish([threads.submit(server.start) for server in servers.values()])
            write_places(file, {name: Place.of(server) for name, server in servers.items()})
            yield servers
        finally:
            file.unlink(missing_ok=True)
            _finish([threads.submit(server.stop) for server in servers.values()])


def _finish(work: Iterable[Future[None]]) -> None:
    failures = []
    for one in work:
        try:
            one.result()
        except EngineFailed as failure:
            failures.append(str(failure))
    if failures:
        raise EngineFailed("\n".join(failures))
