from typing import NamedTuple

from aiokafka import ConsumerRecord as ConsumerRecord
from aiokafka import OffsetAndTimestamp as OffsetAndTimestamp
from aiokafka import RecordMetadata as RecordMetadata
from aiokafka import TopicPartition as TopicPartition

class OffsetAndMetadata(NamedTuple):
    offset: int
    metadata: str
