"""Work queues on a RabbitMQ that is stopped, killed, wiped, full, or meddled with."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed

from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.ports import (
    DispatchUnavailable,
    QueueFull,
    QueuesDiffer,
    WorkItem,
)
from meshwright_common.dispatch.rabbitmq import RabbitWorkQueue
from meshwright_common.dispatch.rabbitmq_link import Link
from meshwright_common.dispatch.rabbitmq_topology import Arguments, Topology
from meshwright_common.ids import new_id
from meshwright_common.testing.servers.rabbitmq import RabbitServer
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

KIND = "chat"
OTHERS: Arguments = {
    "x-queue-type": "classic",
    "x-max-length": 7,
    "x-overflow": "drop-head",
    "x-dead-letter-strategy": "at-most-once",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "elsewhere",
}
"""Values that our queues do not have."""


@dataclass(frozen=True, slots=True)
class Rabbit:
    """Queues on the shared server, and a channel of the driver beside them."""

    url: str
    topology: Topology
    queue: RabbitWorkQueue
    channel: AbstractChannel


@pytest_asyncio.fixture
async def rabbit(rabbitmq_server: str) -> AsyncIterator[Rabbit]:
    """Fresh queues of a prefix of their own."""
    topology = Topology(f"t{new_id()[-12:]}-", (KIND,))
    async with opened(rabbitmq_server, topology) as queue:
        await queue.dead_letters(1)
        connection = await aio_pika.connect(rabbitmq_server)
        async with connection, connection.channel() as channel:
            yield Rabbit(rabbitmq_server, topology, queue, channel)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RabbitServer]:
    """A server that a test may end."""
    server = RabbitServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def opened(url: str, topology: Topology) -> AsyncIterator[RabbitWorkQueue]:
    link = Link(url, topology, name="test")
    try:
        yield RabbitWorkQueue(link)
    finally:
        await link.close()


def item(name: str = "task") -> WorkItem:
    return WorkItem(new_id(), name, KIND, Lane.NORMAL)


@pytest.mark.promise("DQ-20")
async def test_queues_have_the_properties_of_the_design(rabbit: Rabbit) -> None:
    await rabbit.queue.put([item()])
    prefix = rabbit.topology.prefix
    safe: Arguments = {
        "x-queue-type": "quorum",
        "x-max-length": 100_000,
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
    }
    work = safe | {
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": f"{prefix}task_dispatch.dlx",
    }
    retry = safe | {"x-dead-letter-exchange": f"{prefix}task_dispatch"}
    expected = {f"{prefix}task_dispatch.{KIND}.{lane}": work for lane in ("high", "normal", "low")}
    expected |= {f"{prefix}task_dispatch.retry.{attempt}": retry for attempt in (1, 2, 3)}
    for name, arguments in expected.items():
        await declared_as(rabbit, name, arguments)


async def declared_as(rabbit: Rabbit, name: str, arguments: Arguments) -> None:
    """The server takes a declaration of a queue only if each of its properties is equal."""
    connection = await aio_pika.connect(rabbit.url)
    async with connection:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments={**arguments})
        for changed in arguments:
            channel = await connection.channel()
            other = {**arguments, **{changed: OTHERS[changed]}}
            with pytest.raises(ChannelPreconditionFailed, match=changed):
                await channel.declare_queue(name, durable=True, arguments={**other})


@pytest.mark.promise("DQ-21")
async def test_deleted_queues_are_made_again_and_the_loss_is_told(rabbit: Rabbit) -> None:
    async with rabbit.queue.taking() as taking:
        await rabbit.queue.put([item("first")])
        await taking.ack(await taking.take(1))
        losses = rabbit.queue.losses
        for queue in rabbit.topology.queues():
            await rabbit.channel.queue_delete(queue.name)
        await eventually(lambda: rabbit.queue.losses > losses)
        await rabbit.queue.put([item("second")])
        async with asyncio.timeout(20):
            taken = await taking.take(1)
        await taking.ack(taken)
    assert taken[0].item.item_id == "second"


@pytest.mark.promise("DQ-21")
async def test_putting_makes_deleted_queues_again(rabbit: Rabbit) -> None:
    await rabbit.queue.put([item("lost")])
    losses = rabbit.queue.losses
    for queue in rabbit.topology.queues():
        await rabbit.channel.queue_delete(queue.name)
    await rabbit.queue.put([item("kept")])
    assert rabbit.queue.losses > losses
    async with rabbit.queue.taking() as taking:
        taken = await taking.take(10)
    assert [one.item.item_id for one in taken] == ["kept"]


@pytest.mark.promise("DQ-22")
async def test_a_killed_server_is_an_error_and_takers_go_on_when_it_is_back(
    own_server: RabbitServer,
) -> None:
    topology = Topology("", (KIND,))
    async with opened(own_server.url, topology) as queue, queue.taking() as taking:
        await queue.put([item("stored")])
        own_server.kill()
        with pytest.raises(DispatchUnavailable):
            await queue.put([item("refused")])
        own_server.start()
        async with asyncio.timeout(20):
            taken = await taking.take(1)
        await taking.ack(taken)
        assert taken[0].item.item_id == "stored"


@pytest.mark.promise("DQ-22")
async def test_a_taker_that_the_server_forgot_is_brought_items_again(rabbit: Rabbit) -> None:
    async with rabbit.queue.taking() as taking:
        await rabbit.queue.put([item("first")])
        await taking.ack(await taking.take(1))
        waiting = asyncio.create_task(taking.take(1))
        # A server that was killed and just starts does this, without a word to us.
        connection: Any = rabbit.queue._link._connection
        for channel in list(connection.transport.connection.channels.values()):
            for tag in list(channel.consumers if channel else ()):
                await channel.basic_cancel(tag)
        await rabbit.queue.put([item("second")])
        async with asyncio.timeout(30):
            taken = await waiting
        await taking.ack(taken)
    assert taken[0].item.item_id == "second"


@pytest.mark.promise("DQ-21")
async def test_a_server_that_comes_back_empty_gets_its_queues_again(
    own_server: RabbitServer,
) -> None:
    topology = Topology("", (KIND,))
    async with opened(own_server.url, topology) as queue, queue.taking() as taking:
        await queue.put([item("lost")])
        losses = queue.losses
        own_server.stop()
        shutil.rmtree(own_server.folder / "data")
        own_server.start()

        async def is_put() -> bool:
            with contextlib.suppress(DispatchUnavailable):
                await queue.put([item("new")])
                return True
            return False

        await eventually(is_put)
        assert queue.losses > losses
        async with asyncio.timeout(20):
            while "new" not in [one.item.item_id for one in await taking.take(10)]:
                pass


@pytest.mark.promise("DQ-23")
async def test_a_server_that_stands_still_is_an_error_within_six_seconds(
    own_server: RabbitServer,
) -> None:
    async with opened(own_server.url, Topology("", (KIND,))) as queue:
        await queue.put([item()])
        own_server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(DispatchUnavailable):
                await queue.put([item()])
            assert time.monotonic() - began < 8
        finally:
            own_server.resume()


async def fill(queue: RabbitWorkQueue) -> int:
    """Put until the queue is full; return how many it took."""
    for number in range(200):
        try:
            await queue.put([item(f"n{number}")])
        except QueueFull:
            return number
    raise AssertionError("it never refused")


@pytest.mark.promise("DQ-24")
async def test_a_full_queue_refuses_and_drops_nothing(rabbitmq_server: str) -> None:
    small = Topology(f"t{new_id()[-12:]}-", (KIND,), max_length=5)
    async with opened(rabbitmq_server, small) as queue:
        stored = await fill(queue)
        async with queue.taking() as taking:
            names: list[str] = []
            while len(names) < stored:
                taken = await taking.take(50)
                names += [one.item.item_id for one in taken]
                await taking.ack(taken)
    assert names == [f"n{number}" for number in range(stored)]


@pytest.mark.promise("DQ-25")
async def test_a_foreign_body_is_a_dead_letter_with_its_reason(rabbit: Rabbit) -> None:
    bad = {
        b"\xff\xfe": "undecodable: the body is not JSON",
        b"[]": "undecodable: the body is not an object",
        b'{"version": 9}': "unknown_version: 9",
        b'{"version": 1}': "undecodable: tenant_id is not a text",
        b" " * (256 * 1024 + 1): "too_large: 262145 bytes, at most 262144",
    }
    await rabbit.queue.put([item("before")])
    exchange = await rabbit.channel.get_exchange(rabbit.topology.exchange)
    for body in bad:
        await exchange.publish(aio_pika.Message(body), f"{KIND}.normal")
    await rabbit.queue.put([item("after")])
    found: dict[bytes, str] = {}

    async def are_dead() -> bool:
        found.update({dead.body: dead.reason for dead in await rabbit.queue.dead_letters(10)})
        return len(found) == len(bad)

    async with rabbit.queue.taking() as taking:
        good: list[str] = []
        while len(good) < 2:
            taken = await taking.take(10)
            good += [one.item.item_id for one in taken]
            await taking.ack(taken)
        await eventually(are_dead)
    assert good == ["before", "after"]
    assert found == bad


@pytest.mark.promise("DQ-26")
async def test_queues_of_other_properties_are_left_alone(rabbit: Rabbit) -> None:
    await rabbit.queue.put([item()])
    other = replace(rabbit.topology, max_length=7)
    async with opened(rabbit.url, other) as queue:
        with pytest.raises(QueuesDiffer, match=r"dispatch\.prefix"):
            await queue.put([item()])
