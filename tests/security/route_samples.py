"""Requests made from the OpenAPI document: ids filled in, and what a good body needs beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshwright_common.ids import new_id
from tests.security.request_samples import NoRow


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """One request: where, and with what."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    files: Mapping[str, tuple[str, bytes]] | None = None


class RouteSamples:
    """Makes a request of each operation of one document."""

    def __init__(self, document: Mapping[str, Any], samples: Mapping[str, object]) -> None:
        self._document = document
        self._samples = samples

    def request(self, method: str, path: str, ids: Mapping[str, str]) -> RouteRequest:
        """Return the request of an operation with `ids` in path, query and body. Raises: NoRow."""
        operation = self._document["paths"][path][method.lower()]
        where = f"{method} {path}"
        query: dict[str, object] = {}
        filled = path
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] == "path":
                filled = filled.replace(f"{{{name}}}", str(self._named(where, name, ids)))
            elif parameter["in"] == "query" and name != "last_event_id":
                # Of another stream it would be refused before the stream is looked for.
                value = self._optional(where, name, parameter, ids)
                query |= {} if value is None else {name: value}
        content = operation.get("requestBody", {}).get("content", {})
        if "multipart/form-data" in content:
            return RouteRequest(method, filled, query, files={"file": ("mine.txt", b"Mine now.")})
        schema = content.get("application/json", {}).get("schema")
        body = None if schema is None else self._body(where, schema, ids)
        return RouteRequest(method, filled, query, body)

    def _named(self, where: str, name: str, ids: Mapping[str, str]) -> object:
        for known in (f"{where} {name}", name):
            if known in self._samples:
                return _sampled(self._samples[known])
            if known in ids:
                return ids[known]
        if name == "request_id":
            return new_id()
        raise NoRow(f"{where}: no thing is known for {name}")

    def _optional(
        self, where: str, name: str, schema: Mapping[str, Any], ids: Mapping[str, str]
    ) -> object:
        names = (f"{where} {name}", name)
        if any(one in self._samples or one in ids for one in names):
            return self._named(where, name, ids)
        if name.endswith("_ids"):
            return [self._named(where, name.removesuffix("s"), ids)]
        if name.endswith("_id"):
            return self._named(where, name, ids)
        return _default_of(schema) if schema.get("required") is True else None

    def _body(self, where: str, schema: Mapping[str, Any], ids: Mapping[str, str]) -> object:
        schema = self._resolved(schema)
        body: dict[str, object] = {}
        for name, field_schema in schema.get("properties", {}).items():
            value = self._optional(where, name, field_schema, ids)
            if value is None and name in schema.get("required", ()):
                value = self._example(where, name, field_schema, ids)
            if value is not None:
                body[name] = value
        return body

    def _example(
        self, where: str, name: str, schema: Mapping[str, Any], ids: Mapping[str, str]
    ) -> object:
        schema = self._resolved(schema)
        if schema.get("type") == "object" and schema.get("properties"):
            return self._body(where, schema, ids)
        if schema.get("type") == "array":
            return [self._example(where, name, schema["items"], ids)]
        value = _default_of(schema)
        if value is None:
            raise NoRow(f"{where}: no value is known for {name}")
        return value

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while True:
            if reference := schema.get("$ref"):
                schema = self._document["components"]["schemas"][reference.rpartition("/")[2]]
            elif choices := schema.get("anyOf") or schema.get("oneOf"):
                schema = choices[0]
            else:
                return schema


def _sampled(sample: object) -> object:
    return sample() if callable(sample) else sample


def _default_of(schema: Mapping[str, Any]) -> object:
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"string": "Hello", "integer": 1, "number": 0.5, "boolean": True, "object": {}}
    return kinds.get(schema.get("type", ""))
