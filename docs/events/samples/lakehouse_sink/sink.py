"""Writes a topic to Parquet files, partitioned by day, with each event in exactly one of them.

    python sink.py BOOTSTRAP usage.stats LAKE [--rows 5000] [--seconds 30] [--once]

LAKE/data/day=2026-11-28/usage.stats-3-1200-1699.parquet   partition 3, offsets 1200 to 1699
LAKE/manifest/00000042.json                                commit 42: files, and where to go on

A commit is one manifest: it names the files of a batch and the offset of every partition behind
it, and it appears by one atomic step. The sink goes on where the newest manifest says, never where
a consumer group stands: what a crash left between two manifests is read again and written under
the same names. Readers take the files that manifests name, and no others.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as arrow
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pyarrow import parquet

Row: TypeAlias = dict[str, Any]

SCHEMA = arrow.schema(
    [
        ("event_id", arrow.string()),
        ("event_type", arrow.string()),
        ("tenant_id", arrow.string()),
        ("key", arrow.string()),
        ("time", arrow.timestamp("us", tz="UTC")),
        ("source", arrow.string()),
        ("partition", arrow.int32()),
        ("offset", arrow.int64()),
        ("data", arrow.string()),
    ]
)
REMEMBERED_ROWS = 100_000


@dataclass
class Lake:
    """A folder with files and the manifests that say which of them count.

    `recent` are the ids of the newest rows: a producer that was interrupted sends an event twice,
    one soon after the other.
    """

    folder: Path
    number: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    recent: dict[str, None] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep other sinks off the lake, forget what a crash left behind, read where to go on."""
        self.manifests.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
            yield

    @property
    def manifests(self) -> Path:
        return self.folder / "manifest"

    def add(self, topic: str, gathered: dict[int, list[ConsumerRecord]]) -> None:
        """Write what was gathered of each partition and commit it, all or nothing."""
        files: list[str] = []
        offsets = dict(self.offsets)
        for partition, records in sorted(gathered.items()):
            rows = [row for row in map(row_of, records) if row and self._is_new(row["event_id"])]
            if rows:
                files += write_batch(self.folder, topic, rows)
            offsets[partition] = records[-1].offset + 1
        content = {"number": self.number + 1, "files": files, "offsets": offsets}
        target = self.manifests / f"{self.number + 1:08d}.json"
        write_durably(target, json.dumps(content, indent=1).encode())
        self.number, self.offsets = self.number + 1, offsets

    def _is_new(self, event_id: str) -> bool:
        if event_id in self.recent:
            return False
        self.recent[event_id] = None
        if len(self.recent) > REMEMBERED_ROWS:
            del self.recent[next(iter(self.recent))]
        return True

    def _read(self) -> None:
        committed = list(committed_files(self.folder))
        for path in {*self.folder.glob("data/*/*")} - set(committed):
            path.unlink()
        names = sorted(self.manifests.glob("[0-9]*.json"))
        if names:
            newest = json.loads(names[-1].read_text("utf-8"))
            self.number = newest["number"]
            self.offsets = {int(one): offset for one, offset in newest["offsets"].items()}
        ids: list[str] = []
        for path in reversed(committed):
            if len(ids) < REMEMBERED_ROWS:
                ids += parquet.read_table(path, columns=["event_id"])["event_id"].to_pylist()
        self.recent = dict.fromkeys(ids)


def committed_files(folder: Path) -> Iterator[Path]:
    """Yield the files that count, in the order of their commits."""
    for manifest in sorted((folder / "manifest").glob("[0-9]*.json")):
        for name in json.loads(manifest.read_text("utf-8"))["files"]:
            yield folder / name


def write_durably(target: Path, content: bytes) -> None:
    """Let a file appear whole: on the disk before its name is, and its name before we go on."""
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def row_of(record: ConsumerRecord) -> Row | None:
    """Return the row of a record; None, said aloud, for what is no event at all."""
    try:
        headers = {name: value.decode() for name, value in record.headers}
        body = json.loads(record.value)
        return {
            "event_id": headers["ce_id"],
            "event_type": headers["ce_type"],
            "tenant_id": headers["tenant_id"],
            "key": record.key.decode(),
            "time": datetime.fromisoformat(body["timestamp"]),
            "source": headers["ce_source"],
            "partition": record.partition,
            "offset": record.offset,
            "data": json.dumps(body["data"], ensure_ascii=False),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        place = f"{record.topic}/{record.partition}@{record.offset}"
        print(f"left out {place}: no event ({error!r})", file=sys.stderr, flush=True)
        return None


def write_batch(folder: Path, topic: str, rows: list[Row]) -> list[str]:
    """Write the rows of one partition, a file a day; return the names below the lake."""
    days: dict[str, list[Row]] = {}
    for row in rows:
        days.setdefault(f"{row['time']:%Y-%m-%d}", []).append(row)
    names = []
    for day, of_day in days.items():
        place = f"{rows[0]['partition']}-{rows[0]['offset']}-{rows[-1]['offset']}"
        name = f"data/day={day}/{topic}-{place}.parquet"
        buffer = arrow.BufferOutputStream()
        parquet.write_table(arrow.Table.from_pylist(of_day, schema=SCHEMA), buffer)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(folder / name, buffer.getvalue().to_pybytes())
        names.append(name)
    return names


async def sink(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    lake = Lake(arguments.lake)
    # Without a group: all partitions are ours, and the lake alone knows where we are.
    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    with lake.open():
        await consumer.start()
        try:
            await follow(consumer, lake, arguments, stopping)
        finally:
            await consumer.stop()


async def follow(
    consumer: AIOKafkaConsumer,
    lake: Lake,
    arguments: argparse.Namespace,
    stopping: asyncio.Event,
) -> None:
    await go_on(consumer, lake)
    ends = await consumer.end_offsets(list(consumer.assignment()))
    print(f"ready, behind commit {lake.number}", flush=True)
    clock = asyncio.get_running_loop().time
    gathered: dict[int, list[ConsumerRecord]] = {}
    began = clock()
    while not stopping.is_set():
        batches = await consumer.getmany(timeout_ms=200, max_records=arguments.rows)
        for place, records in batches.items():
            gathered.setdefault(place.partition, []).extend(records)
        at_end = arguments.once and await has_passed(consumer, ends)
        count = sum(map(len, gathered.values()))
        if count >= arguments.rows or (count and (at_end or clock() - began > arguments.seconds)):
            lake.add(arguments.topic, gathered)
            print(f"commit {lake.number}: {count} records", flush=True)
            gathered = {}
        if not gathered:
            began = clock()
        if at_end:
            return


async def go_on(consumer: AIOKafkaConsumer, lake: Lake) -> None:
    """Begin where the newest manifest says; a partition that it does not know, at its beginning."""
    begins = await consumer.beginning_offsets(list(consumer.assignment()))
    for place, begin in begins.items():
        wanted = lake.offsets.get(place.partition, begin)
        if wanted < begin:
            raise SystemExit(
                f"{place.topic}/{place.partition}: offsets {wanted} to {begin} are gone: the sink "
                "was away for longer than the topic keeps its events"
            )
        consumer.seek(place, wanted)


async def has_passed(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    for place, end in ends.items():
        if await consumer.position(place) < end:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap", help="host:port of a Kafka broker")
    parser.add_argument("topic")
    parser.add_argument("lake", type=Path, help="folder of the lake, made when it is missing")
    parser.add_argument("--rows", type=int, default=5000, help="commit after so many records")
    parser.add_argument("--seconds", type=float, default=30, help="commit after this time at most")
    parser.add_argument("--once", action="store_true", help="end at the present end of the topic")
    asyncio.run(sink(parser.parse_args()))


if __name__ == "__main__":
    main()
