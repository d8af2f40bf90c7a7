"""How many bytes of PostgreSQL a request, turn, task, passage cost: `python -m bench.stored_bytes`.

A platform of its own on fresh data, with the simulated provider; sizes of all tables with their
indexes and TOAST, before and after, divided by how many there were. Prints the table that stands in
docs/capacity.md. Sizes do not depend on how busy the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import httpx

from bench.platform_target import RunningPlatform, platform, superuser_url
from bench.processes import child, module, placement

WORKERS: Final = 4
TURNS_A_SESSION: Final = 10
QUESTION: Final = "In which order do the services of a platform start, and why in that order? " * 3
"""Some 230 characters; the simulated answer has 64 tokens, some 640 characters."""
MODEL: Final = "sim-n64"
WAIT_SECONDS: Final = 300.0
LISTED: Final = 5
"""Tables that are named for each kind, the largest ones."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What `count` things of a kind have added: bytes and rows by table."""

    kind: str
    count: int
    bytes_by_table: Mapping[str, int]
    rows_by_table: Mapping[str, int]

    @property
    def bytes_each(self) -> float:
        return sum(self.bytes_by_table.values()) / self.count


async def sizes(url: str) -> dict[str, tuple[int, int]]:
    """Return bytes and rows of each table; partitions count for their parents."""
    connection = await asyncpg.connect(url)
    try:
        # Rows that are dead already would be counted as growth.
        await connection.execute("VACUUM ANALYZE")
        rows = await connection.fetch(_SIZES)
    finally:
        await connection.close()
    return {row["name"]: (int(row["bytes"]), int(row["rows"])) for row in rows}


def grown(
    kind: str,
    count: int,
    before: Mapping[str, tuple[int, int]],
    after: Mapping[str, tuple[int, int]],
) -> Growth:
    """Return the difference of two looks."""
    none = (0, 0)
    return Growth(
        kind,
        count,
        {name: after[name][0] - before.get(name, none)[0] for name in after},
        {name: after[name][1] - before.get(name, none)[1] for name in after},
    )


def measure(
    running: RunningPlatform, data: Path, count: int, *, only: str | None = None
) -> list[Growth]:
    """Do `count` of each kind, one kind after the other."""
    url = superuser_url(data)
    client = httpx.Client(
        base_url=running.url, headers={"authorization": f"Bearer {running.api_key}"}, timeout=60
    )
    found = []
    with client, ThreadPoolExecutor(WORKERS) as threads:
        # What the first of each kind makes once is not what the next one costs.
        for kind, work in KINDS:
            if only not in {None, kind}:
                continue
            work(client, threads, WORKERS * TURNS_A_SESSION)
            before = asyncio.run(sizes(url))
            done = work(client, threads, count)
            found.append(grown(kind, done, before, asyncio.run(sizes(url))))
    return found


def turns(client: httpx.Client, threads: ThreadPoolExecutor, count: int) -> int:
    """Ask `count` questions, ten in a session."""

    def converse(_: int) -> None:
        session: dict[str, str] = {}
        for _ in range(TURNS_A_SESSION):
            body = {"message": QUESTION, "model": MODEL, "agent": "chat", **session}
            with client.stream("POST", "/api/v1/chat", json=body) as answer:
                answer.raise_for_status()
                told = [json.loads(line[5:]) for line in answer.iter_lines() if line[:5] == "data:"]
            session = {"session_id": told[0]["session_id"]}

    list(threads.map(converse, range(count // TURNS_A_SESSION)))
    return count // TURNS_A_SESSION * TURNS_A_SESSION


def tasks(client: httpx.Client, threads: ThreadPoolExecutor, count: int) -> int:
    """Submit `count` tasks of the chat agent and wait for all of them."""

    def submit(_: int) -> str:
        body = {"agent": "chat", "message": QUESTION, "model": MODEL}
        answer = client.post("/api/v1/tasks", json=body)
        answer.raise_for_status()
        return str(answer.json()["task_id"])

    def watch(task_id: str) -> None:
        with client.stream("GET", f"/api/v1/tasks/{task_id}/events", timeout=WAIT_SECONDS) as told:
            for _ in told.iter_bytes():
                pass

    list(threads.map(watch, list(threads.map(submit, range(count)))))
    return count


def passages(client: httpx.Client, threads: ThreadPoolExecutor, count: int) -> int:
    """Upload text until it has made some `count` passages; return how many it made."""
    paragraph = " ".join(f"word{number}" for number in range(130))
    text = "\n\n".join(f"# Part {number}\n\n{paragraph} {number}" for number in range(count))
    files = {"file": (f"text-{count}.md", text.encode())}
    answer = client.post("/api/v1/knowledge-bases/default/documents", files=files)
    answer.raise_for_status()
    document = answer.json()["document"]
    while document["state"] not in {"ready", "failed"}:
        document = client.get(f"/api/v1/documents/{document['document_id']}").json()
    if document["state"] == "failed":
        raise RuntimeError(f"not indexed: {document}")
    return int(document["chunk_count"])


def requests(client: httpx.Client, threads: ThreadPoolExecutor, count: int) -> int:
    """Ask `count` questions on OpenAI's wire, which keeps no conversation."""

    def complete(_: int) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
        client.post("/v1/chat/completions", json=body).raise_for_status()

    list(threads.map(complete, range(count)))
    return count


KINDS: Final = (("request", requests), ("turn", turns), ("task", tasks), ("passage", passages))


def table_of(found: list[Growth]) -> str:
    """Return the figures as the table of docs/capacity.md."""
    lines = ["| what | bytes | most of it |", "|---|---|---|"]
    for one in found:
        largest = sorted(one.bytes_by_table.items(), key=lambda item: -item[1])[:LISTED]
        parts = (
            f"`{name}` {size / one.count:,.0f} ({one.rows_by_table[name] / one.count:.1f} rows)"
            for name, size in largest
            if size > 0
        )
        lines.append(f"| {one.kind} | {one.bytes_each:,.0f} | {', '.join(parts)} |")
    return "\n".join(lines)


@contextmanager
def _measured(scratch: Path) -> Iterator[RunningPlatform]:
    place = placement()
    command = module("bench.upstream_simulator", "--port", "0")
    with (
        child(command, ready=r"^listening (127\.0\.0\.1:\d+)", cores=place.load) as simulator,
        platform(
            scratch / "data",
            upstream_url=f"http://{simulator.ready[1]}",
            split=False,
            place=place,
            settings={"MESHWRIGHT_CONFIG": str(_configuration(scratch, simulator.ready[1]))},
        ) as running,
    ):
        yield running


def _configuration(scratch: Path, simulator: str) -> Path:
    """Write a configuration whose models say in their names what the simulator answers."""
    deployment = {"name": "sim*", "model": "*", "base_url": f"http://{simulator}/v1"}
    file = scratch / "models.yaml"
    # JSON is YAML.
    file.write_text(json.dumps({"models": {"deployments": [deployment], "default": "offline"}}))
    return file


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.stored_bytes", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="Of each kind (1000).")
    parser.add_argument("--kind", choices=[kind for kind, _ in KINDS], help="Only this one.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshwright-bench-") as folder:
        scratch = Path(folder)
        with _measured(scratch) as running:
            found = measure(running, scratch / "data", chosen.count, only=chosen.kind)
            print(table_of(found))


_SIZES: Final = """
SELECT n.nspname || '.' || root.relname AS name,
       sum(pg_total_relation_size(leaf.oid))::bigint AS bytes,
       sum(greatest(leaf.reltuples, 0))::bigint AS rows
  FROM pg_class leaf
  JOIN pg_class root ON root.oid = coalesce(pg_partition_root(leaf.oid), leaf.oid)
  JOIN pg_namespace n ON n.oid = root.relnamespace
 WHERE leaf.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
 GROUP BY 1
"""


if __name__ == "__main__":
    main()
