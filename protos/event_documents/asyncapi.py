"""The AsyncAPI 3.0 document: channels, messages, headers, and how Kafka and RabbitMQ carry them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias

from meshwright_common.events.envelope import MAX_BODY_BYTES
from meshwright_common.events.topics import TOPICS, Topic
from meshwright_common.settings import EventSettings
from protos.event_documents.messages import EventKind, Protos

Document: TypeAlias = dict[str, Any]

SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
KAFKA_BINDING: Final = "0.5.0"
AMQP_BINDING: Final = "0.3.0"
DEAD_LETTER_RETENTION: Final = timedelta(days=14)
DEAD_LETTER_SUFFIX: Final = ".dlq"

INFO: Final = """
Facts about what the platform did, for everybody who may read the cluster. Delivery is at least
once and in order per key; `ce_id` tells what was seen before. Minor versions only add: ignore
fields and event types that you do not know. README.md, beside this file, says how to read them.
An installation may put a prefix before every topic (MESHWRIGHT_EVENTS__TOPIC_PREFIX).
"""


def asyncapi(protos: Protos) -> Document:
    """Return the document."""
    kinds = protos.kinds()
    by_channel = {channel: [one for one in kinds if one.channel == channel] for channel in TOPICS}
    channels: Document = {}
    operations: Document = {}
    for topic, members in by_channel.items():
        channels[topic.value] = _topic(topic, members)
        operations[f"send-{topic.value}"] = _operation("send", topic.value, members)
        channels[topic.value + DEAD_LETTER_SUFFIX] = _dead_letters(topic, members)
        operations[f"send-{topic.value}{DEAD_LETTER_SUFFIX}"] = _operation(
            "send", topic.value + DEAD_LETTER_SUFFIX, members
        )
    for name, described in _EXCHANGES.items():
        members = [one for one in kinds if one.channel == name]
        channels[name] = _exchange(described, members)
        operations[f"send-{name}"] = _operation("send", name, members)
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
        "operations": operations,
        "components": {
            "messages": {one.event_type: _message(protos, one) for one in kinds},
            "messageTraits": {"cloudevent": _CLOUDEVENT},
        },
    }


def _topic(topic: Topic, members: Sequence[EventKind]) -> Document:
    facts = TOPICS[topic]
    return {
        "address": topic.value,
        "description": f"Ordered per {facts.key} within a tenant.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": _references(members),
        "bindings": {"kafka": _kafka_channel(topic.value, facts.retention)},
    }


def _dead_letters(topic: Topic, members: Sequence[EventKind]) -> Document:
    name = topic.value + DEAD_LETTER_SUFFIX
    return {
        "address": name,
        "description": f"Events of {topic.value} that one of the platform's own consumers gave up.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": _references(members),
        "bindings": {"kafka": _kafka_channel(name, DEAD_LETTER_RETENTION)},
    }


def _exchange(described: Document, members: Sequence[EventKind]) -> Document:
    return {
        **described,
        "servers": [{"$ref": "#/servers/rabbitmq"}],
        **({"messages": _references(members)} if members else {}),
    }


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


def _operation(action: str, channel: str, members: Iterable[EventKind]) -> Document:
    reference = _reference("channels", channel)
    messages = [
        {"$ref": f"{reference['$ref']}/messages/{_escaped(one.event_type)}"} for one in members
    ]
    return {
        "action": action,
        "channel": reference,
        **({"messages": messages} if messages else {}),
    }


def _message(protos: Protos, kind: EventKind) -> Document:
    message: Document = {
        "name": kind.event_type,
        "title": protos.described(kind.message).comment,
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {"$ref": f"./schemas/{kind.event_type}.schema.json"},
        },
    }
    if kind.channel in set(TOPICS):
        key = TOPICS[Topic(kind.channel)].key
        message["bindings"] = {
            "kafka": {
                "key": {"type": "string", "description": f"{key}, as metadata.partition_key"},
                "bindingVersion": KAFKA_BINDING,
            }
        }
    return message


def _references(members: Iterable[EventKind]) -> Document:
    return {one.event_type: _reference("components/messages", one.event_type) for one in members}


def _reference(section: str, name: str) -> Document:
    return {"$ref": f"#/{section}/{_escaped(name)}"}


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

_EXCHANGES: Final[dict[str, Document]] = {
    "task_dispatch": {
        "address": "task_dispatch",
        "description": "Work for the orchestrator's workers. Theirs alone: its form may change.",
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": "task_dispatch", "type": "direct", "durable": True},
                "bindingVersion": AMQP_BINDING,
            }
        },
    },
    "agent_status": {
        "address": "agent_status",
        "description": "State and load of agents as they change, to whoever listens just then.",
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": "agent_status", "type": "fanout", "durable": True},
                "bindingVersion": AMQP_BINDING,
            }
        },
    },
}
