"""Definitions from the wire: what is refused, and that nothing is lost on the way back."""

from typing import Any

import pytest
from google.protobuf import json_format

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_orchestrator.adapters import agent_rows
from meshwright_orchestrator.wire import definitions

ASKED = (*("name", "description", "traffic_percent", "expected_version", "comment", "request_id"),)


def asked(kind: int = agent_pb2.AGENT_TYPE_CHAT, **fields: Any) -> pb.DefineAgentRequest:
    """Return a request of these fields, the definition's among them, in plain JSON types."""
    own = {name: fields.pop(name) for name in list(fields) if name in ASKED}
    request = pb.DefineAgentRequest(**{"name": "helper", **own})
    request.definition.type = kind  # type: ignore[assignment]
    json_format.ParseDict(fields, request.definition)
    return request


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "Bad Name"}, "name"),
        ({"description": "x" * 2001}, "description"),
        ({"comment": "x" * 1001}, "comment"),
        ({"traffic_percent": 101}, "traffic_percent"),
        ({"expected_version": -1}, "expected_version"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"kind": agent_pb2.AGENT_TYPE_GRAPH}, "definition.type"),
        ({"kind": 0}, "definition.type"),
        ({"instructions": "ä" * 40_000}, "definition.instructions"),
        ({"tools": ["add", "add"]}, "definition.tools[1]"),
        ({"tools": [f"t{n}" for n in range(65)]}, "definition.tools"),
        ({"kind": agent_pb2.AGENT_TYPE_TOOL_CALL}, "definition.tools"),
        ({"tools": ["add"], "approval_tools": ["slow"]}, "definition.approval_tools[0]"),
        ({"agents": ["chat"]}, "definition.agents"),
        ({"kind": agent_pb2.AGENT_TYPE_SUPERVISOR}, "definition.agents"),
        ({"knowledge_base_ids": ["kb"]}, "definition.knowledge_base_ids[0]"),
        ({"model_policy": {"temperature": 2.5}}, "definition.model_policy.temperature"),
        ({"model_policy": {"temperature": "NaN"}}, "definition.model_policy.temperature"),
        ({"model_policy": {"max_output_tokens": 0}}, "definition.model_policy.max_output_tokens"),
        (
            {"model_policy": {"reasoning_effort": "wild"}},
            "definition.model_policy.reasoning_effort",
        ),
        (
            {"memory_policy": {"max_history_messages": 501}},
            "definition.memory_policy.max_history_messages",
        ),
        ({"memory_policy": {"recall_top_k": 51}}, "definition.memory_policy.recall_top_k"),
        ({"memory_policy": {"summary_turns": 10}}, "definition.memory_policy.summary_turns"),
        ({"max_steps": 26}, "definition.max_steps"),
        ({"max_duration": "0.5s"}, "definition.max_duration"),
        ({"output_schema": {"type": "array"}}, "definition.output_schema"),
        ({"output_schema": {"type": "object", "$ref": "http://x/y"}}, "definition.output_schema"),
    ],
)
def test_wrong_definition_names_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        definitions.new_version_from(asked(**fields))
    assert [violation.field for violation in caught.value.field_violations] == [field]


def test_definition_comes_back_as_it_was_written() -> None:
    request = asked(
        agent_pb2.AGENT_TYPE_SUPERVISOR,
        instructions="Lead.",
        tools=["add", "slow"],
        approval_tools=["slow"],
        agents=["chat", "not-yet-there"],
        knowledge_base_ids=[new_id()],
        model_policy={
            "model": "first",
            "fallback_models": ["second"],
            "temperature": 0,
            "max_output_tokens": 5,
            "reasoning_effort": "high",
        },
        memory_policy={
            "max_history_messages": 9,
            "recall_top_k": 0,
            "summary_turns": 0,
            "remembers": True,
        },
        output_schema={"type": "object", "properties": {"a": {"type": "string"}}},
        max_steps=7,
        max_duration="90.5s",
    )
    definition = definitions.new_version_from(request).definition
    assert definitions.definition_message(definition) == request.definition
    stored = agent_rows.definition_record(definition)
    assert agent_rows.definition_from(stored) == definition


def test_definition_without_policies_says_nothing_of_them() -> None:
    definition = definitions.new_version_from(asked()).definition
    assert (definition.memory_top_k, definition.summary_turns, definition.temperature) == (
        None,
    ) * 3
    assert definition.output_schema is None
