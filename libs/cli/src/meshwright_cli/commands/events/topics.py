"""`meshwright events topics`: what the log holds."""

from __future__ import annotations

from datetime import timedelta

from meshwright_cli.commands.events.moments import duration, shown
from meshwright_cli.commands.events.operator import Backbone, operate
from meshwright_cli.commands.events.options import JsonOption
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.events.inspection import TopicState
from meshwright_common.events.topics import DEAD_LETTER_SUFFIX, TOPICS, Topic, retentions


def topics(data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """List the topics: key, how long they are kept, what is in them, who reads them."""

    async def look(backbone: Backbone) -> list[TopicState]:
        return await backbone.log.topics()

    states = operate(data, look)
    if as_json:
        show_json([_content(state) for state in states])
        return
    columns = ("topic", "key", "kept", "partitions", "events", "oldest", "newest", "consumers")
    show_table(*columns, rows=[_row(state) for state in states])


def _row(state: TopicState) -> tuple[str, ...]:
    return (
        *(state.topic, _key(state.topic), duration(_kept(state.topic)), str(state.partitions)),
        *(str(state.events), shown(state.oldest_at), shown(state.newest_at)),
        ", ".join(state.consumers) or "–",
    )


def _content(state: TopicState) -> dict[str, object]:
    return {
        "topic": state.topic,
        "key": _key(state.topic),
        "retention_seconds": round(_kept(state.topic).total_seconds()),
        "partitions": state.partitions,
        "events": state.events,
        "oldest_at": state.oldest_at and shown(state.oldest_at),
        "newest_at": state.newest_at and shown(state.newest_at),
        "consumers": list(state.consumers),
    }


def _key(topic: str) -> str:
    return TOPICS[Topic(topic.removesuffix(DEAD_LETTER_SUFFIX))].key


def _kept(topic: str) -> timedelta:
    return retentions()[topic]
