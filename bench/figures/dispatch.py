"""Tasks from the table through RabbitMQ to one worker, beside Celery and a bare client."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aio_pika

from bench.durable_database import durable_server
from bench.measurement import Measurement
from bench.processes import ProcessError, repository
from bench.targets import Target, peer_python
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.identity.keys import ensure_keys
from meshwright_common.ids import new_id
from meshwright_common.settings import SERVICE_NAMES, DatabaseSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_environment, key_ring
from meshwright_common.testing.servers.rabbitmq import RabbitServer
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.decider import ENGINE_VERSION
from meshwright_orchestrator.domain.models import Limits, Priority, TaskSpec
from meshwright_orchestrator.domain.ports import NewTask, Queueing

NAME: Final = "dispatch"
ABOUT: Final = (
    "tasks/s of one worker: table → RabbitMQ → claim → end with its events, the agent does "
    "nothing; Celery with one worker process on the same server; and messages/s of a bare aio-pika "
    "loop there, confirmed and acked"
)
TASKS: Final = 6000
QUICK_TASKS: Final = 1500
TOGETHER: Final = 256
LIMIT_SECONDS: Final = 120.0
_CELERY: Final = {
    Target.CELERY_SOLO: ("--pool", "solo"),
    Target.CELERY: ("--pool", "prefork"),
    Target.CELERY_RESULTS: ("--pool", "prefork"),
}
PREFETCH: Final = 56
"""As many messages under way as a worker has of all lanes."""


@dataclass(frozen=True, slots=True)
class Engines:
    """A database that loses nothing, a RabbitMQ, and keys for the service."""

    database: DatabaseSettings
    superuser: str = field(repr=False)
    rabbitmq: str
    keys: Path


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Run client and worker in turns. Raises: ProcessError."""
    # Whole rounds, so that both sides have the same number.
    count = (QUICK_TASKS if quick else TASKS) // TOGETHER * TOGETHER
    measurements: list[Measurement] = []
    with _engines(scratch) as engines:
        for repeat in range(repeats):
            rates = {
                Target.RAW: asyncio.run(_raw(engines.rabbitmq, count)),
                **{target: _celery(engines, target, count) for target in _CELERY},
                Target.WORKER: _worker(engines, count),
            }
            measurements += [_measured(target, repeat, rates) for target in rates]
    return measurements


def _measured(target: Target, repeat: int, rates: Mapping[Target, float]) -> Measurement:
    values = {"tasks_per_second": rates[target]}
    if target is Target.WORKER:
        values |= {
            f"vs_{other.replace('-', '_')}": rates[target] / rates[other]
            for other in rates
            if other is not target
        }
    return Measurement(NAME, target, repeat, values)


def _celery(engines: Engines, target: Target, count: int) -> float:
    """Let one worker process of Celery do `count` tasks; return how many a second."""
    command = [
        peer_python("celery"),
        str(repository() / "bench/peers/celery_worker.py"),
        *("--broker", engines.rabbitmq, "--queue", f"celery-{secrets.token_hex(4)}"),
        *("--count", str(count), *_CELERY[target]),
    ]
    if target is Target.CELERY_RESULTS:
        command += ["--results", engines.superuser]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    rate = re.search(r"^rate (\S+)$", done.stdout, re.M)
    if rate is None:
        raise ProcessError(f"Celery did not end {count} tasks:\n{done.stderr[-2000:]}")
    return float(rate[1])


@contextmanager
def _engines(scratch: Path) -> Iterator[Engines]:
    (scratch / "rabbitmq").mkdir()
    rabbit = RabbitServer(scratch / "rabbitmq")
    with durable_server(scratch) as (settings, superuser):
        rabbit.start()
        try:
            ensure_keys(scratch / "keys", SERVICE_NAMES)
            yield Engines(settings, superuser, rabbit.url, scratch / "keys")
        finally:
            rabbit.stop()


async def _raw(url: str, count: int) -> float:
    """Publish and take `count` messages at the same time; return how many a second."""
    connection = await aio_pika.connect(url)
    async with connection:
        publishing = await connection.channel()
        taking = await connection.channel(publisher_confirms=False)
        await taking.set_qos(prefetch_count=PREFETCH)
        queue = await publishing.declare_queue(
            f"raw-{secrets.token_hex(4)}", durable=True, arguments={"x-queue-type": "quorum"}
        )
        message = aio_pika.Message(b"x" * 200, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        taken, all_taken = 0, asyncio.Event()

        async def take(incoming: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal taken
            await incoming.ack()
            taken += 1
            if taken == count:
                all_taken.set()

        async def publish() -> None:
            for _ in range(0, count, TOGETHER):
                await asyncio.gather(
                    *(
                        publishing.default_exchange.publish(message, queue.name)
                        for _ in range(TOGETHER)
                    )
                )

        began = time.perf_counter()
        source = await taking.get_queue(queue.name)
        consumer = await source.consume(take)
        sending = asyncio.ensure_future(publish())
        async with asyncio.timeout(LIMIT_SECONDS):
            await all_taken.wait()
        seconds = time.perf_counter() - began
        await sending
        await source.cancel(consumer)
        await queue.delete(if_unused=False, if_empty=False)
    return count / seconds


def _worker(engines: Engines, count: int) -> float:
    """Let one worker process do `count` accepted tasks; return how many a second."""
    tenant = new_id()
    asyncio.run(_accept(engines.database, tenant, count))
    process = subprocess.Popen(
        [sys.executable, "-m", "meshwright_orchestrator"],
        cwd=repository(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "MESHWRIGHT_DATABASE__URL": engines.database.url,
            "MESHWRIGHT_DISPATCH__URL": engines.rabbitmq,
            "MESHWRIGHT_DISPATCH__PREFIX": f"bench-{secrets.token_hex(4)}-",
            "MESHWRIGHT_IDENTITY__KEYS_DIR": str(engines.keys),
            "MESHWRIGHT_RPC__LISTEN": "127.0.0.1:0",
            **encryption_environment(),
            "MESHWRIGHT_TELEMETRY__LOG_LEVEL": "warning",
            "MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true",
        },
    )
    try:
        return asyncio.run(_rate(engines.database, tenant, count, process))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


async def _accept(settings: DatabaseSettings, tenant: str, count: int) -> None:
    """Store tasks as SubmitTask does."""
    owner = Principal(tenant, new_id(), "user", frozenset())
    spec = TaskSpec("noop", (Message(Role.USER, (Text("Go"),)),))
    async with open_database(settings, "orchestrator") as database:
        tasks = PostgresTasks(database, key_ring(database), lease_seconds=10, default_seconds=600)
        with bind(CallContext(principal=owner)):
            for _ in range(0, count, TOGETHER):
                await asyncio.gather(
                    *(
                        tasks.enqueue(
                            NewTask(
                                task_id=new_id(),
                                owner=owner,
                                correlation_id=new_id(),
                                spec=spec,
                                limits=Limits(),
                                engine_version=ENGINE_VERSION,
                                request_id="",
                            ),
                            Queueing("chat", Priority.NORMAL, ""),
                        )
                        for _ in range(TOGETHER)
                    )
                )


async def _rate(
    settings: DatabaseSettings, tenant: str, count: int, process: subprocess.Popen[bytes]
) -> float:
    """Wait until all are done; return tasks per second from the first claim to the last end."""
    deadline = time.monotonic() + LIMIT_SECONDS
    async with open_database(settings, "orchestrator") as database:
        while time.monotonic() < deadline and process.poll() is None:
            async with unit_of_work(database, tenant) as connection:
                row = await connection.fetchrow(_DONE, tenant)
            if row is not None and row["done"] >= count:
                return float(row["done"] / row["seconds"])
            await asyncio.sleep(0.5)
    raise ProcessError(f"the worker did not end {count} tasks within {LIMIT_SECONDS:g} s")


_DONE: Final = """
SELECT count(*) FILTER (WHERE state = 'completed') AS done,
       extract(epoch FROM max(changed_at) FILTER (WHERE state = 'completed')
           - min(changed_at) FILTER (WHERE state = 'running'))::float8 AS seconds
  FROM orchestrator.transitions WHERE tenant_id = $1
"""
