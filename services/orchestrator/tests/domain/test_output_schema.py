"""Schemas of outputs, and what fits them: also when both are written to harm."""

import time
from typing import Any

import pytest

from meshwright_orchestrator.domain import output_schema

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]+$"},
        "children": {"type": "array", "uniqueItems": True, "items": {"$ref": "#"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "array"}, 'its type must be "object"'),
        ({}, 'its type must be "object"'),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "$schema"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x/y"}}}, "must stay inside"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "leads nowhere"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "is no JSON Schema"),
        ({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}, "RE2"),
        ({"type": "object", "$id": "urn:x"}, "$id is not supported"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties"),
        ({"type": "object", "description": "x" * 40_000}, "at most 32768 bytes"),
    ],
)
def test_wrong_schema_is_told_why(schema: dict[str, Any], wrong: str) -> None:
    assert wrong in output_schema.wrong_with(schema)


def test_too_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(70):
        schema = {"properties": {"a": schema}}
    assert "levels" in output_schema.wrong_with({"type": "object", **schema})


def test_properties_may_be_named_like_keywords() -> None:
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("$ref", "$id", "pattern")},
    }
    assert output_schema.wrong_with(schema) == ""


def test_output_is_read_also_from_a_fence() -> None:
    assert output_schema.wrong_with(TREE) == ""
    text = '```json\n{"name": "Ann", "children": [{"name": "Bob"}]}\n```'
    assert output_schema.read(text, TREE)[0] == {"name": "Ann", "children": [{"name": "Bob"}]}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Ann", "one JSON object"),
        ("[]", "must be a JSON object"),
        ('{"name": NaN}', "one JSON object"),
        ('{"name": 1e999}', "one JSON object"),
        ('{"name": ' + "9" * 400 + "}", "one JSON object"),
        ("[" * 100_000, "one JSON object"),
        ('{"name": "ann"}', "does not match"),
        ('{"name": "Ann", "x": 1}', "Additional properties"),
        ('{"name": "Ann", "children": [{"name": "Bob"}, {"name": "Bob"}]}', "non-unique"),
        ('{"name": "Ann", "children": [{}]}', "children[0]: 'name' is a required property"),
        ('{"name": "' + "A" * 300_000 + '"}', "at most"),
    ],
)
def test_output_that_does_not_fit_is_told_why(text: str, wrong: str) -> None:
    output, told = output_schema.read(text, TREE)
    assert output is None
    assert wrong in told


def test_check_ends_however_schema_and_output_are_nested() -> None:
    doubling = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    bomb = {"type": "object", "$ref": "#/$defs/a0", "$defs": {**doubling, "a40": {}}}
    circle = {"type": "object", "$ref": "#"}
    deep = '{"name": "Ann"}'
    for _ in range(200):
        deep = f'{{"name": "Ann", "children": [{deep}]}}'
    many = ",".join(f'{{"name": "A{"b" * (n % 90)}"}}' for n in range(4_000))
    began = time.process_time()
    for schema, text in (
        (bomb, "{}"),
        (circle, "{}"),
        (TREE, deep),
        (TREE, f'{{"name": "Ann", "children": [{many}]}}'),
    ):
        assert output_schema.wrong_with(schema) == ""
        assert output_schema.read(text, schema)[0] is None
    assert time.process_time() - began < 10
