"""Adds up the cost of model calls per tenant and day, each event once, with aiokafka alone.

    python consumer.py BOOTSTRAP DATABASE [--topic usage.stats] [--group data-team-costs]

The sums and the ids of what was added are in one SQLite file and change in one transaction: a
record that arrives twice adds nothing the second time. The offset is committed after that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from aiokafka import AIOKafkaConsumer, ConsumerRecord

TABLES = """
    CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS costs (
        tenant_id TEXT, day TEXT, calls INTEGER NOT NULL, cost_micro_usd INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, day)
    ) WITHOUT ROWID;
"""
ADD = """
    INSERT INTO costs VALUES (?, ?, 1, ?)
    ON CONFLICT (tenant_id, day) DO UPDATE
       SET calls = calls + 1, cost_micro_usd = cost_micro_usd + excluded.cost_micro_usd
"""


def apply(database: sqlite3.Connection, records: Sequence[ConsumerRecord]) -> int:
    """Add what was not seen before, all or nothing; return how many records that were."""
    new = 0
    with database:
        for record in records:
            headers = dict(record.headers)
            # Later versions may put other event types on the topic: they are not ours to count.
            if headers.get("ce_type") != b"model.usage.recorded":
                continue
            event_id = headers["ce_id"].decode()
            if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event_id]).rowcount == 0:
                continue
            event = json.loads(record.value)
            # 64-bit numbers are strings; a field that is absent is zero.
            cost = int(event["data"].get("cost_micro_usd", "0"))
            day = event["timestamp"][:10]
            database.execute(ADD, [headers["tenant_id"].decode(), day, cost])
            new += 1
    return new


async def consume(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    with closing(sqlite3.connect(arguments.database)) as database:
        database.executescript(TABLES)
        await consumer.start()
        print("ready", flush=True)
        try:
            while not stopping.is_set():
                batches = await consumer.getmany(timeout_ms=500, max_records=500)
                records = [record for batch in batches.values() for record in batch]
                if records:
                    new = apply(database, records)
                    await consumer.commit()
                    print(f"{len(records)} records, {new} new", flush=True)
        finally:
            await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap", help="host:port of a Kafka broker")
    parser.add_argument("database", help="SQLite file, made when it is missing")
    parser.add_argument("--topic", default="usage.stats")
    parser.add_argument("--group", default="data-team-costs")
    asyncio.run(consume(parser.parse_args()))


if __name__ == "__main__":
    main()
