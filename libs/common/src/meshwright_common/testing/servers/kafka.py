"""Apache Kafka 4: one KRaft node, broker and controller in one."""

from __future__ import annotations

import base64
import secrets
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed

JAVA: Final = "/usr/bin/java"
HEAP: Final = ("-Xms128m", "-Xmx512m", "-XX:MaxDirectMemorySize=128m")
COLLECTOR: Final = ("-XX:+UseSerialGC", "-XX:+ExplicitGCInvokesConcurrent")
LARGEST_BATCH_BYTES: Final = 2 * 1024 * 1024 + 64 * 1024
"""A message of 1 MiB and its headers must pass, and a batch of two."""

SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(LARGEST_BATCH_BYTES),
    # One node: nothing can have copies, and nobody else is waited for.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After a kill, the node is let in again only when its former session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.segment.bytes": str(64 * 1024 * 1024),
}
LOGGING: Final = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
METADATA_REQUEST: Final = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
"""Metadata, version 1, of no topic: key, version, correlation id, no client id; no names."""


class KafkaServer(Server):
    """A Kafka node that makes no topic unasked. `bootstrap` is its address."""

    name = "kafka"
    port_names = ("client", "controller")

    @property
    def bootstrap(self) -> str:
        """What a client calls its bootstrap servers."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.bootstrap

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_EVENTS__URL": f"kafka://{self.bootstrap}"}

    def _launch(self) -> None:
        jars = f"{installed('kafka')}/*"
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings()))
        logging = self.folder / "log4j2.properties"
        logging.write_text(LOGGING)
        options = ("-cp", jars, f"-Dlog4j2.configurationFile={logging}")
        if not (self._data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode()[:22]
            quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m")
            tool = ("kafka.tools.StorageTool", "format", "--standalone")
            self._run_to_its_end(JAVA, *quick, *options, *tool, "-t", cluster, "-c", properties)
        self._run(JAVA, *HEAP, *COLLECTOR, *options, "kafka.Kafka", properties)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _settings(self) -> list[tuple[str, str]]:
        client = f"PLAINTEXT://{LOOPBACK}:{self.port}"
        controller = f"CONTROLLER://{LOOPBACK}:{self.ports['controller']}"
        return [
            *SETTINGS.items(),
            ("controller.quorum.bootstrap.servers", f"{LOOPBACK}:{self.ports['controller']}"),
            ("listeners", f"{client},{controller}"),
            ("advertised.listeners", f"{client},{controller}"),
            ("log.dirs", str(self._data)),
        ]

    def _answers(self) -> bool:
        with socket.create_connection((LOOPBACK, self.port), timeout=5.0) as connection:
            connection.sendall(struct.pack(">i", len(METADATA_REQUEST)) + METADATA_REQUEST)
            with connection.makefile("rb") as answer:
                head = answer.read(12)
        if len(head) < 12:
            return False
        # Size, correlation id, number of brokers: the node lists itself once it is let in.
        brokers: int = struct.unpack(">iii", head)[2]
        return brokers == 1
