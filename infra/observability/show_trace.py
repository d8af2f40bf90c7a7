"""Print a trace of a file that MESHWRIGHT_TELEMETRY__TRACE_FILE names, as a tree.

    python3 show_trace.py FILE [TRACE]

Without a trace: the traces of the file, newest last. Needs Python alone.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def spans_of(file: Path) -> list[dict[str, Any]]:
    """Return all spans of the file, each with the `service` that made it."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            names = {one["key"]: one["value"] for one in resource["resource"]["attributes"]}
            service = names["service.name"]["stringValue"]
            for scope in resource["scopeSpans"]:
                found += [{**span, "service": service} for span in scope["spans"]]
    return sorted(found, key=lambda span: int(span["startTimeUnixNano"]))


def show(spans: list[dict[str, Any]]) -> None:
    """Print the spans of one trace, each below its parent."""
    known = {span["spanId"] for span in spans}
    below = defaultdict(list)
    for span in spans:
        parent = span.get("parentSpanId", "")
        below[parent if parent in known else ""].append(span)

    def walk(parent: str, depth: int) -> None:
        for span in below[parent]:
            lasted = (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6
            failed = "  FAILED" if span.get("status", {}).get("code") == 2 else ""
            name = "  " * depth + span["name"]
            sys.stdout.write(f"{name:<64}{lasted:>10.1f} ms  {span['service']}{failed}\n")
            walk(span["spanId"], depth + 1)

    walk("", 0)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write(__doc__ or "")
        return 2
    spans = spans_of(Path(arguments[0]))
    if len(arguments) == 2:
        wanted = [span for span in spans if span["traceId"] == arguments[1]]
        show(wanted)
        return 0 if wanted else 1
    roots = {span["traceId"]: span for span in reversed(spans)}
    for trace_id, first in reversed(roots.items()):
        sys.stdout.write(f"{trace_id}  {first['name']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
