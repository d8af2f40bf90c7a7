"""Validate rendered manifests strictly: unknown fields fail, whatever kind they are of.

    validate.py KUBERNETES_VERSION FOLDER_OF_CRDS FILE…

Kinds of Kubernetes are checked against its own schemas, all others against the definitions in the
folder. A kind without a schema fails.
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

# The one that parses in C, where there is one.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file."""
    with path.open(encoding="utf-8") as file:
        return [one for one in yaml.load_all(file, LOADER) if one]


def closed(schema: Any) -> Any:
    """Return the schema of a definition with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # What a field is called is no keyword of the schema.
    fields = {name: closed(one) for name, one in schema.get("properties", {}).items()}
    result = {name: closed(one) for name, one in schema.items() if name != "properties"}
    if fields:
        result["properties"] = fields
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result


def definitions(folder: Path) -> dict[tuple[str, str], Any]:
    """Return the schemas of the custom kinds, by apiVersion and kind."""
    found: dict[tuple[str, str], Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        for definition in documents(path):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # The machinery's, not the author's: any label, any annotation.
                schema["properties"]["metadata"] = {"type": "object"}
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = jsonschema.Draft7Validator(schema)
    return found


def mistakes(item: dict[str, Any], version: str, custom: dict[tuple[str, str], Any]) -> list[str]:
    """Return what is wrong with an object."""
    validator = custom.get((item["apiVersion"], item["kind"]))
    if validator is not None:
        return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(item)]
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return ["no schema is known of this kind"]
    return []


def main(version: str, folder: str, *files: str) -> int:
    """Print what is wrong, and return the exit code."""
    custom = definitions(Path(folder))
    checked: dict[str, list[str]] = {}
    failed = False
    for name in files:
        for item in documents(Path(name)):
            # Variants repeat most of their overlay.
            key = yaml.dump(item, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
            if key not in checked:
                checked[key] = mistakes(item, version, custom)
            for mistake in checked[key]:
                failed = True
                named = f"{item['kind']} {item['metadata'].get('name')}"
                sys.stderr.write(f"{Path(name).stem}: {named}: {mistake}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
