"""The topics of the event log: what each carries, how it is keyed, how long it is kept.

These are facts and jobs that data teams may read: ordered per key, replayable, many readers. Work
and status (`task_dispatch`, `agent_status`) travel by work queues and have no topic here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Topic(StrEnum):
    """A topic by its name on the wire."""

    TASK_RESULT = "task.result"
    DOCUMENT_INDEX = "document.index"
    USAGE_STATS = "usage.stats"
    AUDIT_LOG = "audit.log"
    NOTIFICATION = "notification"


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a topic promises: `key` names the field that orders its events."""

    key: str
    retention: timedelta


TOPICS: Final[Mapping[Topic, TopicFacts]] = {
    Topic.TASK_RESULT: TopicFacts(key="user_id", retention=timedelta(days=7)),
    Topic.DOCUMENT_INDEX: TopicFacts(key="document_id", retention=timedelta(days=3)),
    Topic.USAGE_STATS: TopicFacts(key="user_id", retention=timedelta(days=30)),
    Topic.AUDIT_LOG: TopicFacts(key="tenant_id", retention=timedelta(days=180)),
    Topic.NOTIFICATION: TopicFacts(key="user_id", retention=timedelta(days=3)),
}

DEAD_LETTER_SUFFIX: Final = ".dlq"
DEAD_LETTER_RETENTION: Final = timedelta(days=14)


def dead_letter_topic(topic: Topic) -> str:
    """Return the name of the topic on which data teams see what consumers of `topic` gave up.

    Kept for `DEAD_LETTER_RETENTION`, same key as the topic. No service consumes it.
    """
    return topic.value + DEAD_LETTER_SUFFIX


def retentions() -> dict[str, timedelta]:
    """Return how long each topic is kept, those of dead letters included, by name."""
    kept = {topic.value: facts.retention for topic, facts in TOPICS.items()}
    return kept | {dead_letter_topic(topic): DEAD_LETTER_RETENTION for topic in TOPICS}
