"""The servers that tests run on: each is the real one, on the loopback, and never left behind.

Issue 3, build 1: a server dies with its process, keeps its data over SIGKILL, and is found again
at the same address. A word is put into each and read back as any client of it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import aiohttp
import asyncpg
import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from elasticsearch import AsyncElasticsearch
from pymilvus import MilvusClient  # type: ignore[attr-defined]  # the stub is the services'
from pymilvus.exceptions import MilvusException
from redis.cluster import ClusterNode, RedisCluster

from meshwright_common.storage.embedded.process import EngineFailed
from meshwright_common.testing.servers.base import Server
from meshwright_common.testing.servers.catalogue import SERVERS
from meshwright_common.testing.servers.redis import DebianRedis
from meshwright_common.testing.servers.together import ENGINES_VARIABLE, read_places
from meshwright_common.testing.waiting import eventually

ONE_SERVER = Path(__file__).with_name("one_server.py")
WORD = "kept"
MILVUS_VECTOR = [0.1] * 8

Step = Callable[[str], Coroutine[Any, Any, object]]


async def kafka_put(address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(WORD, num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await producer.send_and_wait(WORD, WORD.encode())


async def kafka_get(address: str) -> object:
    consumer = AIOKafkaConsumer(WORD, bootstrap_servers=address, auto_offset_reset="earliest")
    async with consumer:
        value: bytes = (await consumer.getone()).value or b""
        return value.decode()


async def rabbitmq_put(address: str) -> None:
    # A quorum queue that is younger than half a second does not live through SIGKILL in 3.10: the
    # node writes its list of them that often. A classic one is on disk when its message is acked.
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        await channel.declare_queue(WORD, durable=True)
        message = aio_pika.Message(WORD.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, WORD)


async def rabbitmq_get(address: str) -> object:
    async with await aio_pika.connect(address) as connection:
        queue = await (await connection.channel()).get_queue(WORD)
        return (await queue.get(no_ack=True)).body.decode()


async def consul_put(address: str) -> None:
    async with (
        aiohttp.ClientSession(address) as client,
        client.put("/v1/kv/kept", data=WORD) as put,
    ):
        assert put.ok


async def consul_get(address: str) -> object:
    async with aiohttp.ClientSession(address) as client:
        return await (await client.get("/v1/kv/kept?raw")).text()


async def postgres_put(address: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE EXTENSION pg_trgm")
    await connection.execute("CREATE TABLE kept AS SELECT 'kept' AS word")
    await connection.close()


async def postgres_get(address: str) -> object:
    connection = await asyncpg.connect(address)
    word: object = await connection.fetchval("SELECT word FROM kept")
    await connection.close()
    return word


async def redis_put(address: str) -> None:
    with redis.Redis.from_url(address) as client:
        client.set(WORD, WORD)


async def redis_get(address: str) -> object:
    with redis.Redis.from_url(address, decode_responses=True) as client:
        return client.get(WORD)


def cluster_of(address: str) -> RedisCluster:
    nodes = [urlsplit(f"//{node}") for node in urlsplit(address).netloc.split(",")]
    startup = [
        ClusterNode(str(node.hostname), int(node.port or 0))  # type: ignore[no-untyped-call]
        for node in nodes
    ]
    return RedisCluster(startup_nodes=startup, decode_responses=True)


async def cluster_put(address: str) -> None:
    with cluster_of(address) as client:
        for number in range(30):
            client.set(f"{WORD}-{number}", WORD)


async def cluster_get(address: str) -> object:
    with cluster_of(address) as client:
        (word,) = {client.get(f"{WORD}-{number}") for number in range(30)}
    return word


async def elasticsearch_put(address: str) -> None:
    async with AsyncElasticsearch(address) as client:
        await client.index(index=WORD, id="1", document={"word": WORD}, refresh=True)


async def elasticsearch_get(address: str) -> object:
    async with AsyncElasticsearch(address) as client:
        await client.cluster.health(index=WORD, wait_for_status="yellow", timeout="20s")
        return (await client.get(index=WORD, id="1"))["_source"]["word"]


async def milvus_put(address: str) -> None:
    client = MilvusClient(uri=address)
    client.create_collection(WORD, dimension=len(MILVUS_VECTOR))
    client.insert(WORD, [{"id": 1, "vector": MILVUS_VECTOR, "word": WORD}])
    client.close()


async def milvus_get(address: str) -> object:
    client = MilvusClient(uri=address)
    try:
        client.load_collection(WORD)
        (found,) = client.query(WORD, filter="id == 1", consistency_level="Strong")
    finally:
        client.close()
    word: object = found["word"]
    return word


async def nothing(address: str) -> None:
    """What is kept by a server in memory."""


CLIENTS: dict[str, tuple[Step, Step]] = {
    "kafka": (kafka_put, kafka_get),
    "rabbitmq": (rabbitmq_put, rabbitmq_get),
    "consul": (consul_put, consul_get),
    "postgres": (postgres_put, postgres_get),
    "redis": (redis_put, redis_get),
    "redis-cluster": (cluster_put, cluster_get),
    "elasticsearch": (elasticsearch_put, elasticsearch_get),
    "milvus": (milvus_put, milvus_get),
    "milvus-lite": (milvus_put, milvus_get),
}
FORGETFUL = {"s3"}
"""Servers that keep their data in memory."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server's own account can get to, which the ones of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name) / "server"


@pytest.fixture
def parent(name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that started the server called `name` on `folder`."""
    command = (sys.executable, ONE_SERVER, name, folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


@pytest.fixture
def server(name: str, folder: Path) -> Iterator[Server]:
    """The server called `name` on `folder`, started by this process."""
    own = SERVERS[name](folder)
    own.start()
    yield own
    own.stop()


def listening(family: list[psutil.Process]) -> set[str]:
    """Return the addresses that these processes listen on, as others on this machine see them."""
    pids = {member.pid for member in family}
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.net_connections("tcp")
        if connection.pid in pids and connection.laddr and connection.status == psutil.CONN_LISTEN
    }


async def within(step: Step, address: str) -> object:
    """Do `step`, again while the server is still finding its data."""
    found: list[object] = []

    async def works() -> bool:
        with contextlib.suppress(MilvusException, TimeoutError):
            found.append(await step(address))
        return bool(found)

    await eventually(works, timeout_seconds=30)
    return found[0]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_for_this_machine_alone_dies_with_its_process_and_keeps_its_data(
    parent: subprocess.Popen[str], name: str, folder: Path
) -> None:
    assert parent.stdout is not None
    address = json.loads(parent.stdout.readline())["address"]
    family = psutil.Process(parent.pid).children(recursive=True)
    assert "127.0.0.1" in listening(family)
    assert listening(family) <= {"127.0.0.1", "::1"}
    put, get = CLIENTS.get(name, (nothing, nothing))
    asyncio.run(put(address))

    parent.kill()
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left

    again = SERVERS[name](folder)
    with contextlib.ExitStack() as stack:
        stack.callback(again.stop)
        again.start()
        assert address == again.address
        assert asyncio.run(within(get, address)) == (WORD if name in CLIENTS else None)


def test_every_server_that_keeps_data_is_asked_for_it() -> None:
    assert SERVERS.keys() - CLIENTS.keys() == FORGETFUL


@pytest.mark.timeout(170)
@pytest.mark.parametrize("name", ["rabbitmq", "redis-cluster"])  # the ones of several processes
def test_a_killed_server_is_gone_at_once_and_starts_again_with_its_data(
    server: Server, name: str
) -> None:
    put, get = CLIENTS[name]
    address = server.address
    asyncio.run(put(address))
    family = [psutil.Process(pid) for pid in server.pids]

    server.kill()
    assert not any(member.is_running() for member in family)
    assert not server.running

    server.start()
    assert address == server.address
    assert WORD == asyncio.run(within(get, address))


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_a_paused_server_keeps_its_connections_and_answers_when_resumed(
    server: Server, name: str
) -> None:
    put, get = CLIENTS[name]
    asyncio.run(put(server.address))
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(0.3)
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
    server.resume()
    assert WORD == asyncio.run(get(server.address))


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    server = DebianRedis(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    (data / "appendonlydir").write_text("in the way")
    with pytest.raises(EngineFailed, match="append-only"):
        server.start()
    assert not server.running


def command(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "meshwright_common.testing.servers", *words),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_up_twice_starts_once_and_down_leaves_nothing(tmp_path: Path) -> None:
    chosen = ("--folder", tmp_path / "engines", "--only", "redis", "postgres")
    # As `make engines` names it.
    first = command("up", "--folder", "engines", *chosen[2:], cwd=tmp_path)
    assert 0 == first.returncode, first.stderr
    places = read_places(tmp_path / "engines" / "engines.json")
    servers = [psutil.Process(pid) for place in places.values() for pid in place.pids]

    assert first.stdout == command("up", *chosen).stdout == command("status", *chosen).stdout
    assert "MESHWRIGHT_REDIS__URL" in first.stdout
    assert WORD == asyncio.run(put_and_get("redis", places["redis"].address))

    assert 0 == command("down", *chosen).returncode
    assert not any(one.is_running() for one in servers)
    assert [] == list((tmp_path / "engines").iterdir())
    assert 1 == command("status", *chosen).returncode
    assert 0 == command("down", *chosen).returncode


def test_a_command_finds_the_servers_and_they_end_with_it(tmp_path: Path) -> None:
    copy = f"import os, shutil; shutil.copy(os.environ['{ENGINES_VARIABLE}'], {str(tmp_path)!r})"
    python = (sys.executable, "-c", f"{copy}; raise SystemExit(7)")
    assert 7 == command("run", "--only", "redis", "--", *python).returncode
    (place,) = read_places(tmp_path / "engines.json").values()
    with pytest.raises(redis.ConnectionError):
        asyncio.run(redis_put(place.address))


async def put_and_get(name: str, address: str) -> object:
    put, get = CLIENTS[name]
    await put(address)
    return await get(address)


@pytest.mark.asyncio
async def test_rabbitmq_gives_back_what_was_refused_by_way_of_another_queue(
    rabbitmq_server: str,
) -> None:
    """Quorum queues that dead-letter at least once need a feature that the node must have on."""
    one, other = (f"{WORD}-{secrets.token_hex(4)}" for _ in range(2))
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": other,
    }
    async with await aio_pika.connect(rabbitmq_server) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(one, durable=True, arguments=arguments)
        letters = await channel.declare_queue(other, durable=True)
        await channel.default_exchange.publish(aio_pika.Message(WORD.encode()), one)
        await (await queue.get()).reject()

        async def arrived() -> bool:
            letter = await letters.get(no_ack=True, fail=False)
            return letter is not None and letter.body.decode() == WORD

        await eventually(arrived)
        await queue.delete(if_unused=False, if_empty=False)
        await letters.delete()
