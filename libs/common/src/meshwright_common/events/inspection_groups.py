"""The consumer groups of a Kafka cluster: which topics each reads, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

Offsets: TypeAlias = dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Group:
    """The topics that a group reads or has read, and its offsets in their partitions."""

    topics: frozenset[str]
    offsets: Offsets


async def groups_of(admin: AIOKafkaAdminClient, prefix: str) -> dict[str, Group]:
    """Return the groups whose name begins with `prefix`, by what follows it."""
    names = sorted(str(group[0]) for group in await admin.list_consumer_groups())
    mine = [name for name in names if name.startswith(prefix)]
    subscribed = await _subscriptions(admin, mine)
    groups: dict[str, Group] = {}
    for name in mine:
        known = await admin.list_consumer_group_offsets(name)
        offsets = {place: one.offset for place, one in known.items() if one.offset >= 0}
        topics = {place.topic for place in offsets} | subscribed.get(name, set())
        groups[name.removeprefix(prefix)] = Group(frozenset(topics), offsets)
    return groups


async def _subscriptions(admin: AIOKafkaAdminClient, groups: Sequence[str]) -> dict[str, set[str]]:
    """Return what the present members of groups read; a group in a rebalance may tell nothing.

    A group that has never committed an offset is known by this alone.
    """
    described = [
        group
        for name in groups
        # Trap: of an answer about several groups the driver (0.14) understands only the first; it
        # reads version 3 of it as version 2, which lacks the field between two groups.
        for answer in await admin.describe_consumer_groups([name])
        for group in answer.to_object()["groups"]
        if group["protocol_type"] == "consumer"
    ]
    return {
        group["group"]: {
            topic
            for member in group["members"]
            for topic in _subscription(member["member_metadata"])
        }
        for group in described
    }


def _subscription(metadata: bytes) -> Sequence[str]:
    return ConsumerProtocolMemberMetadata.decode(metadata).subscription if metadata else ()
