"""What delivery rests on is set, on the objects at work: the driver's defaults lose data."""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.kafka_member import Membership, make_consumer
from meshwright_common.events.kafka_publisher import abandon, make_producer
from meshwright_common.events.kafka_topics import make_missing
from meshwright_common.events.topics import TOPICS, Topic, dead_letter_topic
from meshwright_common.settings import EventSettings, SettingsError

NOWHERE = EventSettings(url="kafka://127.0.0.1:9")
DAY = 24 * 3600 * 1000


@pytest.mark.promise("EK-06")
@pytest.mark.asyncio
async def test_a_producer_waits_for_all_copies_and_repeats_nothing_twice() -> None:
    producer: Any = make_producer(NOWHERE)  # the driver shows its settings nowhere
    try:
        assert producer._sender._acks == -1
        assert producer._txn_manager is not None
        assert producer._compression_type == "lz4"
        assert producer._message_accumulator._linger_time == 0
        assert producer._message_accumulator._batch_size == 512 * 1024
        assert producer._request_timeout_ms == 2000
    finally:
        await abandon(producer)


@pytest.mark.promise("EK-06")
@pytest.mark.asyncio
async def test_a_consumer_moves_its_position_itself_and_begins_at_the_beginning() -> None:
    consumer: Any = make_consumer(NOWHERE, "group")
    try:
        assert consumer._enable_auto_commit is False
        assert consumer._auto_offset_reset == "earliest"
        assert consumer._isolation_level == "read_committed"
        assert consumer._partition_assignment_strategy == (StickyPartitionAssignor,)
        assert consumer._session_timeout_ms == 15_000
        assert consumer._heartbeat_interval_ms == 3_000
        assert consumer._rebalance_timeout_ms == 30_000
        assert consumer._max_poll_interval_ms == 120_000
        assert consumer._fetch_max_wait_ms == 100
    finally:
        await consumer.stop()


@pytest.mark.promise("EK-06")
def test_a_batch_in_hand_may_take_less_than_a_rebalance() -> None:
    assert Membership().let_go_seconds < Membership().rebalance_seconds


@pytest.mark.promise("EK-06")
@pytest.mark.asyncio
@pytest.mark.timeout(170)
async def test_topics_are_made_as_they_have_to_be_and_only_once(kafka_server: str) -> None:
    settings = EventSettings(
        url=f"kafka://{kafka_server}", topic_prefix=f"t{secrets.token_hex(4)}.", partitions=3
    )
    made = await make_missing(settings)
    assert len(made) == 2 * len(TOPICS)
    assert await make_missing(settings) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server)
    await admin.start()
    try:
        for topic, kept_days in (
            (Topic.USAGE_STATS.value, 30),
            (dead_letter_topic(Topic.AUDIT_LOG), 14),
        ):
            name = settings.topic_prefix + topic
            [facts] = await admin.describe_topics([name])
            assert len(facts["partitions"]) == 3
            [answer] = await admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name)]
            )
            config = {entry[0]: entry[1] for entry in answer.resources[0][4]}
            assert config["retention.ms"] == str(kept_days * DAY)
            assert config["segment.ms"] == str(DAY // 2)
            assert config["cleanup.policy"] == "delete"
            assert config["max.message.bytes"] == str(2 * 1024 * 1024)
            assert config["min.insync.replicas"] == "1"
    finally:
        await admin.close()


@pytest.mark.promise("EK-06")
def test_brokers_and_login_are_read_from_the_url(tmp_path: Path) -> None:
    assert connecting(EventSettings(url="kafka://a:1,b:2")) == {"bootstrap_servers": ["a:1", "b:2"]}
    secure = connecting(EventSettings(url="kafka+tls://us%40er:p%2Fw@a:1"))
    assert isinstance(secure.pop("ssl_context"), ssl.SSLContext)
    assert secure == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "us@er",
        "sasl_plain_password": "p/w",
    }
    missing = tmp_path / "ca.pem"
    with pytest.raises(SettingsError, match="EVENTS__CA_FILE"):
        connecting(EventSettings(url="kafka+tls://a:1", ca_file=missing))


@pytest.mark.promise("EK-06")
@pytest.mark.parametrize("url", ["kafka://", "kafka://a", "kafka://a:0", "kafka://u:p@a:1"])
def test_a_url_without_brokers_or_with_an_open_password_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="EVENTS__URL"):
        connecting(EventSettings(url=url))
