"""Looking at the log on Kafka, without joining any group: nobody's partitions move for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from meshwright_common.errors import Unavailable
from meshwright_common.events.inspection import (
    FOLLOW_EVERY_SECONDS,
    PAGE,
    TOPIC_NAMES,
    Logged,
    Position,
    Start,
    TopicState,
)
from meshwright_common.events.inspection_groups import Group, Offsets, groups_of
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.kafka_records import delivery_of
from meshwright_common.settings import EventSettings

REQUEST_TIMEOUT_MS: Final = 5000
SILENCE_SECONDS: Final = 10.0
"""How long records that are there may keep us waiting: then the broker is away."""
FETCH_BYTES: Final = 256 * 1024
"""Of one partition at once; a larger record comes alone."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The oldest offset that is kept in each partition, and the one that comes next."""

    first: Offsets
    end: Offsets

    def only(self, topic: str) -> _Bounds:
        """Return those of one topic, as the cluster names it."""
        places = [place for place in self.end if place.topic == topic]
        return _Bounds(
            first={place: self.first[place] for place in places},
            end={place: self.end[place] for place in places},
        )

    @property
    def count(self) -> int:
        """How many records are kept."""
        return sum(end - self.first[place] for place, end in self.end.items())


class KafkaInspection:
    """The log on the cluster of `settings`."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._prefix = settings.topic_prefix

    async def topics(self) -> list[TopicState]:
        readers: dict[str, list[str]] = {}
        for name, group in sorted((await self._groups()).items()):
            for topic in group.topics:
                readers.setdefault(topic, []).append(name)
        async with self._reading() as consumer:
            bounds = await self._bounds(consumer, TOPIC_NAMES)
            kept = [place for place, end in bounds.end.items() if end > bounds.first[place]]
            oldest = await _moments(consumer, {place: bounds.first[place] for place in kept})
            newest = await _moments(consumer, {place: bounds.end[place] - 1 for place in kept})
        return [
            TopicState(
                topic=topic,
                partitions=len(mine.end),
                events=mine.count,
                oldest_at=min((oldest[one] for one in mine.end if one in oldest), default=None),
                newest_at=max((newest[one] for one in mine.end if one in newest), default=None),
                consumers=readers.get(self._prefix + topic, []),
            )
            for topic in TOPIC_NAMES
            for mine in (bounds.only(self._prefix + topic),)
        ]

    async def positions(self) -> list[Position]:
        groups = sorted((await self._groups()).items())
        async with self._reading() as consumer:
            bounds = await self._bounds(consumer, TOPIC_NAMES)
            return [
                await _position(consumer, name, topic, group, bounds.only(self._prefix + topic))
                for name, group in groups
                for topic in TOPIC_NAMES
                if self._prefix + topic in group.topics
            ]

    async def read(self, topic: str, start: Start, *, follow: bool) -> AsyncGenerator[Logged, None]:
        since = start if isinstance(start, datetime) else None
        async with self._reading() as consumer:
            bounds = await self._bounds(consumer, [topic])
            offsets = await _offsets_at(consumer, bounds, start)
            async for page in _pages(consumer, offsets, None if follow else bounds.end):
                for logged in _logged(topic, page):
                    if since is None or logged.happened_at >= since:
                        yield logged

    async def between(
        self, topic: str, since: datetime, until: datetime
    ) -> AsyncGenerator[Sequence[Logged], None]:
        async with self._reading() as consumer:
            bounds = await self._bounds(consumer, [topic])
            # No record is older than its event.
            offsets = await _offsets_at(consumer, bounds, since)
            async for page in _pages(consumer, offsets, bounds.end):
                events = [one for one in _logged(topic, page) if since <= one.happened_at < until]
                if events:
                    yield events

    async def _groups(self) -> dict[str, Group]:
        async with self._admin() as admin:
            return await groups_of(admin, self._prefix)

    async def _places(self, topics: Sequence[str]) -> list[TopicPartition]:
        """Return the partitions of the topics; one that nobody has made yet has none."""
        async with self._admin() as admin:
            described = {one["topic"]: one["partitions"] for one in await admin.describe_topics()}
        return [
            TopicPartition(name, number)
            for name in (self._prefix + topic for topic in topics)
            for number in sorted(one["partition"] for one in described.get(name, ()))
        ]

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(
            **connecting(self._settings), request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        with _translated():
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **connecting(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        with _translated():
            try:
                await consumer.start()
                yield consumer
            finally:
                await consumer.stop()

    async def _bounds(self, consumer: AIOKafkaConsumer, topics: Sequence[str]) -> _Bounds:
        """Return what is kept of the topics."""
        places = await self._places(topics)
        if not places:
            return _Bounds({}, {})
        return _Bounds(
            first=await consumer.beginning_offsets(places), end=await consumer.end_offsets(places)
        )


async def _position(
    consumer: AIOKafkaConsumer, name: str, topic: str, group: Group, bounds: _Bounds
) -> Position:
    """Return how far a group is in a topic of which `bounds` are the partitions."""
    # A partition of which nothing was read yet is read from its beginning.
    unread = {place: max(group.offsets.get(place, 0), bounds.first[place]) for place in bounds.end}
    waiting = {place: offset for place, offset in unread.items() if offset < bounds.end[place]}
    moments = await _moments(consumer, waiting)
    behind = sum(bounds.end[place] - offset for place, offset in waiting.items())
    return Position(name, topic, behind, min(moments.values(), default=None))


async def _offsets_at(consumer: AIOKafkaConsumer, bounds: _Bounds, start: Start) -> Offsets:
    if start == "beginning":
        return bounds.first
    if start == "end" or not bounds.end:
        return bounds.end
    moment = max(0, int(start.timestamp() * 1000))
    found = await consumer.offsets_for_times(dict.fromkeys(bounds.end, moment))
    return {
        place: bounds.end[place] if known is None else known.offset
        for place, known in found.items()
    }


async def _pages(
    consumer: AIOKafkaConsumer, offsets: Offsets, end: Offsets | None
) -> AsyncGenerator[list[ConsumerRecord], None]:
    """Yield records from `offsets` on, up to `end` or for ever. Raises: Unavailable on silence."""
    left = {place for place in offsets if end is None or offsets[place] < end[place]}
    if end is None and not left:
        # Nobody has made the topic yet: nothing comes until it is looked for anew.
        raise Unavailable("The topic does not exist yet: no event was ever sent to it.")
    if left:
        consumer.assign(sorted(left))
    for place in left:
        consumer.seek(place, offsets[place])
    heard = asyncio.get_running_loop().time()
    while left:
        records = await consumer.getmany(
            *left, timeout_ms=round(FOLLOW_EVERY_SECONDS * 1000), max_records=PAGE
        )
        now = asyncio.get_running_loop().time()
        if records:
            heard = now
        elif end is not None and now - heard > SILENCE_SECONDS:
            raise _silent()
        yield _in_order(records, end)
        if end is not None:
            left = {place for place in left if await consumer.position(place) < end[place]}


def _in_order(
    records: Mapping[TopicPartition, Sequence[ConsumerRecord]], end: Offsets | None
) -> list[ConsumerRecord]:
    """Return the records of several partitions by their times; those of one stay in order."""
    found = [
        one
        for place, read in records.items()
        for one in read
        if end is None or one.offset < end[place]
    ]
    return sorted(found, key=lambda one: one.timestamp)


async def _moments(consumer: AIOKafkaConsumer, offsets: Offsets) -> dict[TopicPartition, datetime]:
    """Return when the record at each offset was written. Raises: Unavailable on silence."""
    moments: dict[TopicPartition, datetime] = {}
    if offsets:
        consumer.assign(sorted(offsets))
    for place, offset in offsets.items():
        consumer.seek(place, offset)
    heard = asyncio.get_running_loop().time()
    while left := offsets.keys() - moments.keys():
        records = await consumer.getmany(*left, timeout_ms=200, max_records=len(left))
        now = asyncio.get_running_loop().time()
        if records:
            heard = now
        elif now - heard > SILENCE_SECONDS:
            raise _silent()
        for place, read in records.items():
            moments.setdefault(place, _moment(read[0]))
            consumer.pause(place)
    return moments


def _logged(topic: str, records: Iterable[ConsumerRecord]) -> Iterator[Logged]:
    for record in records:
        yield Logged(topic=topic, delivery=delivery_of(record), logged_at=_moment(record))


def _moment(record: ConsumerRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _silent() -> Unavailable:
    return Unavailable("Kafka has not answered for a while.", retry_after_seconds=1.0)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"Kafka cannot be reached: {type(error).__name__} {error}", retry_after_seconds=1.0
        ) from error
