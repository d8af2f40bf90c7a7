"""Write schemas/<provider>.json: what the providers of infra/terraform take and give.

The providers themselves are not to be had from a package registry. Their CDK bindings are, and are
generated from the providers' own schemas: this reads the resources that infra/terraform uses out of
the npm packages @cdktf/provider-{aws,helm,kubernetes,random} (versions in PACKAGES) and keeps
names, types, what is required, and which blocks nest how. `schemas/by_hand.json` has the few things
that the bindings leave out, each with the page of the provider's documentation that says so.

    npm pack @cdktf/provider-aws@21.22.1 …    each unpacked into FOLDER/aws, FOLDER/helm, …
    python infra/dev/terraform/make_schemas.py FOLDER

Three things the bindings do not tell: whether an optional attribute is computed as well (all count
as such), whether nested settings are a block or an attribute (`ATTRIBUTES` names the second kind),
and what is sensitive.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[2]
PACKAGES: Final = {
    "aws": ("@cdktf/provider-aws 21.22.1", "6.25.0"),
    "helm": ("@cdktf/provider-helm 12.1.2", "3.1.1"),
    "kubernetes": ("@cdktf/provider-kubernetes 12.1.1", "2.38.0"),
    "random": ("@cdktf/provider-random 12.0.1", "3.7.2"),
}
"""The package that each schema was read from, and the provider's version in it."""

ATTRIBUTES: Final = {
    "helm": {
        *("kubernetes", "exec", "registries", "postrender"),
        *("set", "set_list", "set_sensitive", "set_wo"),
    }
}
"""Nested settings that are written as attributes (`x = {…}`) instead of blocks."""

SCALARS: Final = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "any": "dynamic",
}
GETTERS: Final = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
    "getBooleanMapAttribute": ["map", "bool"],
    "interpolationForAttribute": "dynamic",
}
ENTRY: Final = re.compile(
    r"^\s+'?(\w+)'?: \{\s+value: (.+?),\s+isBlock: (true|false),\s+type: \"(\w+)\",\s+"
    r"storageClassType: \"(\w+)\",",
    re.MULTILINE,
)
GETTER: Final = re.compile(r"^    get (\w+)\(\) \{\s+return (.+?);\s+\}", re.MULTILINE)
NESTED: Final = re.compile(r"this\.(_\w+) = new (\w+)\(this, \"(\w+)\"(?:, (true|false))?\)")
USED: Final = re.compile(r'^(resource|data|provider) "(\w+)"', re.MULTILINE)


class Binding:
    """The binding of one resource, data source or provider: its JavaScript and its types."""

    def __init__(self, provider: str, folder: Path) -> None:
        self.provider = provider
        self._code = (folder / "index.js").read_text()
        self._types = (folder / "index.d.ts").read_text()

    def schema(self) -> dict[str, Any]:
        """Return the block of the whole thing."""
        found = re.search(
            r"^class (\w+) extends cdktf\.Terraform(?:Resource|DataSource|Provider) \{",
            self._code,
            re.MULTILINE,
        )
        if found is None:
            raise ValueError("no class of a resource")
        name = found.group(1)
        body = self._body(f"class {name} extends")
        entries = body[body.index("synthesizeHclAttributes") :]
        return self._block(entries, self._required(f"{name}Config"), body)

    def _block(self, entries: str, required: set[str], body: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for name, value, nested, kind, storage in ENTRY.findall(entries):
            must = _plain(name) in required
            if nested == "true":
                maker = re.search(r"(\w+)ToHclTerraform", value)
                if maker is None:
                    raise ValueError(f"no block {name}")
                struct = maker.group(1)
                inner = self._struct(struct)
                nesting = {"struct": "single"}.get(kind, kind)
                if name in ATTRIBUTES.get(self.provider, ()):
                    kind_of = ["nested", nesting, inner]
                    attributes[name] = [kind_of, "required" if must else "optional"]
                else:
                    blocks[name] = [nesting, must, inner]
            else:
                attributes[name] = [_type(kind, storage), "required" if must else "optional"]
        for name, kind in self._computed(body):
            if name not in attributes and name not in blocks:
                attributes[name] = [kind, "computed"]
        return {"attributes": attributes, "blocks": blocks}

    def _struct(self, struct: str) -> dict[str, Any]:
        title = struct[0].upper() + struct[1:]
        entries = self._body(f"function {struct}ToHclTerraform(")
        return self._block(
            entries, self._required(title), self._body(f"class {title}OutputReference extends")
        )

    def _computed(self, body: str) -> list[tuple[str, Any]]:
        """Return what can be read of an object, with its type."""
        nested = {
            own: (kind, name, wraps == "true") for own, kind, name, wraps in NESTED.findall(body)
        }
        found: list[tuple[str, Any]] = []
        for getter, value in GETTER.findall(body):
            if getter.endswith("Input"):
                continue
            plain = re.search(r"this\.(\w+)\(['\"](\w+)['\"]\)", value)
            if plain is not None and plain.group(1) in GETTERS:
                kind = GETTERS[plain.group(1)]
                if "Fn.tolist" in value:
                    kind = ["set", kind[1]]
                found.append((plain.group(2), kind))
                continue
            own = re.fullmatch(r"this\.(_\w+)", value)
            if own is None or own.group(1) not in nested:
                continue
            kind, name, wraps = nested[own.group(1)]
            found.append((name, self._nested_type(kind, wraps=wraps)))
        return found

    def _nested_type(self, kind: str, *, wraps: bool) -> Any:
        maps = {
            "cdktf.StringMap": "string",
            "cdktf.BooleanMap": "bool",
            "cdktf.NumberMap": "number",
        }
        if kind in maps or f"cdktf.{kind}" in maps:
            return ["map", maps.get(kind) or maps[f"cdktf.{kind}"]]
        if not kind.endswith("List"):
            return _of(self._computed(self._body(f"class {kind} extends")))
        listed = self._body(f"class {kind} extends")
        inner = re.search(r"return new (\w+)\(", listed)
        if inner is None:
            return "dynamic"
        one = _of(self._computed(self._body(f"class {inner.group(1)} extends")))
        return ["set" if wraps else "list", one]

    def _required(self, interface: str) -> set[str]:
        start = self._types.find(f"interface {interface} ")
        if start < 0:
            return set()
        text = self._types[start : self._types.index("\n}", start)]
        return {_plain(name) for name in re.findall(r"readonly (\w+):", text)}

    def _body(self, beginning: str) -> str:
        start = self._code.find(beginning)
        if start < 0:
            return ""
        return self._code[start : self._code.index("\n}", start)]


def _plain(name: str) -> str:
    """Return a name as it is in every spelling: the bindings turn a_b into aB."""
    return name.replace("_", "").lower()


def _type(kind: str, storage: str) -> Any:
    if storage in SCALARS:
        return SCALARS[storage]
    for ending, outer in (("MapList", "map"), ("List", "list"), ("Map", "map")):
        if storage.endswith(ending) and storage.removesuffix(ending) in SCALARS:
            inner: Any = SCALARS[storage.removesuffix(ending)]
            if ending == "MapList":
                return [kind if kind in {"list", "set"} else "list", [outer, inner]]
            return [kind if kind in {"list", "set"} else outer, inner]
    return "dynamic"


def _of(attributes: list[tuple[str, Any]]) -> Any:
    return ["object", dict(attributes)]


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found.group(1).split())}]"


def used() -> dict[str, set[tuple[str, str]]]:
    """Return what the modules use of each provider: (kind, name) of resources and data sources."""
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in PACKAGES}
    for file in (ROOT / "infra/terraform").rglob("*.tf"):
        for kind, name in USED.findall(file.read_text()):
            provider = name.split("_")[0]
            if kind != "provider" and provider in found:
                found[provider].add((kind, name))
    return found


def folder_of(provider: str, kind: str, name: str) -> str:
    """Return the folder of a binding: `data-aws-availability-zones`, `vpc`."""
    short = name.removeprefix(f"{provider}_").replace("_", "-")
    renamed = {"string": "string-resource", "aws-eip": "eip"}.get(short, short)
    return f"data-{provider}-{short}" if kind == "data" else renamed


def main(packages: Path) -> None:
    """Write a file for each provider."""
    by_hand = json.loads((HERE / "schemas/by_hand.json").read_text())
    for provider, (package, version) in PACKAGES.items():
        library = packages / provider / "package/lib"
        schema: dict[str, Any] = {
            "source": package,
            "version": version,
            "provider": Binding(provider, library / "provider").schema(),
            "resource": {},
            "data": {},
            "ephemeral": {},
        }
        for kind, name in sorted(used()[provider]):
            binding = Binding(provider, library / folder_of(provider, kind, name))
            schema[kind][name] = binding.schema()
        for kind, things in by_hand.get(provider, {}).items():
            for name, block in things.items():
                schema[kind][name] = {key: block[key] for key in ("attributes", "blocks")}
        text = json.dumps(schema, indent=1, sort_keys=True)
        # One attribute a line: a change of a provider reads as one.
        text = re.sub(
            r"\[\s+([^\[\]{}]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text
        )
        (HERE / f"schemas/{provider}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
