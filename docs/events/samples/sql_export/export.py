"""Exports a topic up to its present end to a file of JSON lines, and queries it by SQL.

    python export.py export BOOTSTRAP usage.stats usage.jsonl
    python export.py query usage.jsonl "SELECT tenant_id, count(*) FROM events GROUP BY 1"

The export belongs to no consumer group and moves nobody's offset. A line is one event, each event
is there once, and the file appears whole or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TextIO

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

TABLE = """
    CREATE TABLE events (
        event_id TEXT PRIMARY KEY, event_type TEXT, tenant_id TEXT, key TEXT, time TEXT,
        source TEXT, data TEXT
    )
"""


def line_of(record: ConsumerRecord) -> dict[str, object] | None:
    """Return what a line holds of a record; None, said aloud, for what is no event at all."""
    try:
        headers = {name: value.decode() for name, value in record.headers}
        body = json.loads(record.value)
        return {
            "event_id": headers["ce_id"],
            "event_type": headers["ce_type"],
            "tenant_id": headers["tenant_id"],
            "key": record.key.decode(),
            "time": body["timestamp"],
            "source": headers["ce_source"],
            "data": body["data"],
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        place = f"{record.topic}/{record.partition}@{record.offset}"
        print(f"left out {place}: no event ({error!r})", file=sys.stderr)
        return None


async def export(bootstrap: str, topic: str, target: Path) -> int:
    """Write every event that is in the topic now; return how many."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        places = [
            TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()
        ]
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        left = {place for place in places if begins[place] < ends[place]}
        seen: set[str] = set()
        partial = target.with_name(f"{target.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            while left:
                batches = await consumer.getmany(*left, timeout_ms=1000)
                for place, records in batches.items():
                    write([one for one in records if one.offset < ends[place]], file, seen)
                left = {place for place in left if await consumer.position(place) < ends[place]}
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        await consumer.stop()
    return len(seen)


def write(records: list[ConsumerRecord], file: TextIO, seen: set[str]) -> None:
    for record in records:
        line = line_of(record)
        if line is not None and line["event_id"] not in seen:
            seen.add(str(line["event_id"]))
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def query(source: Path, statement: str) -> None:
    """Print the rows of a SELECT over the table `events`; `data ->> 'name'` reads a fact."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(TABLE)
        with source.open(encoding="utf-8") as lines:
            database.executemany(
                "INSERT INTO events VALUES"
                " (:event_id, :event_type, :tenant_id, :key, :time, :source, :data)",
                ({**line, "data": json.dumps(line["data"])} for line in map(json.loads, lines)),
            )
        rows = database.execute(statement)
        print(*(column[0] for column in rows.description), sep="\t")
        for row in rows:
            print(*row, sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export", help="topic to file")
    exporting.add_argument("bootstrap", help="host:port of a Kafka broker")
    exporting.add_argument("topic")
    exporting.add_argument("file", type=Path)
    querying = commands.add_parser("query", help="SQL over an exported file")
    querying.add_argument("file", type=Path)
    querying.add_argument("statement")
    arguments = parser.parse_args()
    if arguments.command == "export":
        count = asyncio.run(export(arguments.bootstrap, arguments.topic, arguments.file))
        print(f"{count} events in {arguments.file}", file=sys.stderr)
    else:
        query(arguments.file, arguments.statement)


if __name__ == "__main__":
    main()
