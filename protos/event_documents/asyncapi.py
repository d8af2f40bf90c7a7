"""The AsyncAPI 3.0 document: channels, messages, headers, and how Kafka and RabbitMQ carry them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias

from meshwright_common.dispatch.bodies import VERSION
from meshwright_common.dispatch.lanes import MAX_RETRIES, Lane
from meshwright_common.events.envelope import MAX_BODY_BYTES
from meshwright_common.events.topics import (
    DEAD_LETTER_RETENTION,
    TOPICS,
    Topic,
    dead_letter_topic,
)
from meshwright_common.settings import EventSettings
from protos.event_documents.messages import EventKind, Protos

Document: TypeAlias = dict[str, Any]

SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
KAFKA_BINDING: Final = "0.5.0"
AMQP_BINDING: Final = "0.3.0"
DEAD_LETTER: Final = "dead-letter"
WORK_ITEM: Final = "work-item"
"""Names of the messages that are no events."""

INFO: Final = """
Facts about what the platform did, for everybody who may read the cluster. Delivery is at least
once and in order per key; `ce_id` tells what was seen before. Minor versions only add: ignore
fields and event types that you do not know. README.md, beside this file, says how to read them.
An installation may put a prefix before every topic (MESHWRIGHT_EVENTS__TOPIC_PREFIX).
"""


def asyncapi(protos: Protos) -> Document:
    """Return the document."""
    kinds = protos.kinds()
    members = {channel: _types(kinds, channel) for channel in (*TOPICS, "agent_status")}
    channels: Document = {}
    for topic in TOPICS:
        channels[topic.value] = _topic(topic, members[topic])
        channels[dead_letter_topic(topic)] = _dead_letters(topic)
    channels["task_dispatch"] = _exchange(_TASK_DISPATCH, [WORK_ITEM])
    channels["agent_status"] = _exchange(_AGENT_STATUS, members["agent_status"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Meshwright events",
            "version": "1.0.0",
            "description": " ".join(INFO.split()),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": _server("kafka", "9092", "Kafka, of MESHWRIGHT_EVENTS__URL."),
            "rabbitmq": _server("amqp", "5672", "RabbitMQ, of MESHWRIGHT_DISPATCH__URL."),
        },
        "channels": channels,
        "operations": {
            f"send-{name}": _operation(name, channel) for name, channel in channels.items()
        },
        "components": {
            "messages": {
                **{one.event_type: _message(protos, one) for one in kinds},
                DEAD_LETTER: _DEAD_LETTER,
                WORK_ITEM: _WORK_ITEM,
            },
            "messageTraits": {"cloudevent": _CLOUDEVENT},
        },
    }


def _types(kinds: Iterable[EventKind], channel: str) -> list[str]:
    return [kind.event_type for kind in kinds if kind.channel == channel]


def _topic(topic: Topic, messages: Sequence[str]) -> Document:
    facts = TOPICS[topic]
    return {
        "address": topic.value,
        "description": f"Ordered per {facts.key} within a tenant.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": _references(messages),
        "bindings": {"kafka": _kafka_channel(topic.value, facts.retention)},
    }


def _dead_letters(topic: Topic) -> Document:
    name = dead_letter_topic(topic)
    return {
        "address": name,
        "description": f"Events of {topic.value} that one of the platform's own consumers gave up.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": _references([DEAD_LETTER]),
        "bindings": {"kafka": _kafka_channel(name, DEAD_LETTER_RETENTION)},
    }


def _exchange(described: Document, messages: Sequence[str]) -> Document:
    servers = [{"$ref": "#/servers/rabbitmq"}]
    return {**described, "servers": servers, "messages": _references(messages)}


def _kafka_channel(name: str, retention: timedelta) -> Document:
    return {
        "topic": name,
        "partitions": EventSettings().partitions,
        "topicConfiguration": {
            "cleanup.policy": ["delete"],
            "retention.ms": round(retention.total_seconds() * 1000),
        },
        "bindingVersion": KAFKA_BINDING,
    }


def _operation(name: str, channel: Document) -> Document:
    reference = f"#/channels/{_escaped(name)}"
    return {
        "action": "send",
        "channel": {"$ref": reference},
        "messages": [
            {"$ref": f"{reference}/messages/{_escaped(message)}"} for message in channel["messages"]
        ],
    }


def _message(protos: Protos, kind: EventKind) -> Document:
    message: Document = {
        "name": kind.event_type,
        "title": protos.described(kind.message).comment,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {"$ref": f"./schemas/{kind.event_type}.schema.json"},
        },
    }
    if kind.channel in set(TOPICS):
        key = TOPICS[Topic(kind.channel)].key
        message["traits"] = [{"$ref": "#/components/messageTraits/cloudevent"}]
        message["bindings"] = {
            "kafka": {
                "key": {"type": "string", "description": f"{key}, as metadata.partition_key"},
                "bindingVersion": KAFKA_BINDING,
            }
        }
    return message


def _references(messages: Iterable[str]) -> Document:
    return {name: {"$ref": f"#/components/messages/{_escaped(name)}"} for name in messages}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _server(protocol: str, port: str, description: str) -> Document:
    return {
        "host": "{host}:{port}",
        "protocol": protocol,
        "description": description,
        "variables": {"host": {"default": "localhost"}, "port": {"default": port}},
    }


def _text(description: str, **facts: object) -> Document:
    return {"type": "string", "description": description, **facts}


_CLOUDEVENT: Final[Document] = {
    "contentType": "application/json",
    "headers": {
        "type": "object",
        "required": [
            *("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time"),
            *("content-type", "tenant_id"),
        ],
        "properties": {
            "ce_specversion": _text("CloudEvents 1.0, binary content mode.", const="1.0"),
            "ce_id": _text("The body's event_id: same id, same event.", format="uuid"),
            "ce_type": _text("The body's event_type."),
            "ce_source": _text("The service that said it."),
            "ce_subject": _text("The body's metadata.partition_key."),
            "ce_time": _text("The body's timestamp.", format="date-time"),
            "content-type": _text("Of the body.", const="application/json"),
            "tenant_id": _text("Whose event it is. Only here, not in the body.", format="uuid"),
            "traceparent": _text("W3C trace context of what caused it. May be absent."),
        },
    },
    "description": f"The body has at most {MAX_BODY_BYTES} bytes.",
}

_DEAD_LETTER: Final[Document] = {
    "name": DEAD_LETTER,
    "title": "An event that a consumer of the platform gave up, as it came, and why.",
    "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
    "headers": {
        "type": "object",
        "description": "Those of the event, as far as they can be read, and these.",
        "required": ["dlq_reason", "dlq_consumer", "dlq_attempts", "dlq_origin"],
        "properties": {
            "dlq_reason": _text("The last error, cut to 500 characters."),
            "dlq_consumer": _text("The consumer that gave it up."),
            "dlq_attempts": _text("How often it was tried.", pattern="^[0-9]+$"),
            "dlq_origin": _text("Where it stood in the log: topic/partition@offset on Kafka."),
        },
    },
    "payload": {
        "description": "The body as it came, which may be no JSON; empty when it was too large."
    },
}

_WORK_ITEM: Final[Document] = {
    "name": WORK_ITEM,
    "title": "The name of a piece of work. What is to be done stands in the orchestrator's tables.",
    "contentType": "application/json",
    "payload": {
        "type": "object",
        "required": ["version", "tenant_id", "item_id", "kind", "lane", "attempt"],
        "properties": {
            "version": {"type": "integer", "const": VERSION},
            "tenant_id": _text("Whose work it is.", format="uuid"),
            "item_id": _text("Such as the id of a task."),
            "kind": _text("Kind of work; each has queues of its own."),
            "lane": _text("How urgent it is.", enum=[lane.value for lane in Lane]),
            "attempt": {"type": "integer", "minimum": 0, "maximum": MAX_RETRIES},
        },
    },
}

_TASK_DISPATCH: Final[Document] = {
    "address": "task_dispatch",
    "description": "Work for the orchestrator's workers alone: its form may change.",
    "bindings": {
        "amqp": {
            "is": "routingKey",
            "exchange": {"name": "task_dispatch", "type": "direct", "durable": True},
            "bindingVersion": AMQP_BINDING,
        }
    },
}

_AGENT_STATUS: Final[Document] = {
    "address": "agent_status",
    "description": "State and load of agents as they change, to whoever listens just then.",
    "bindings": {
        "amqp": {
            "is": "routingKey",
            "exchange": {"name": "agent_status", "type": "fanout", "durable": True},
            "bindingVersion": AMQP_BINDING,
        }
    },
}
