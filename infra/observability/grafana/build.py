"""Write dashboards/*.json from pages.py:  python infra/observability/grafana/build.py [--check]

With --check nothing is written; the exit code is 1 when a file is not what it would be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pages import DASHBOARDS
from panels import model

FOLDER = Path(__file__).parent / "dashboards"


def main() -> int:
    """Write the files, or check them; return the exit code."""
    wanted = {
        FOLDER / f"{one.uid.removeprefix('meshwright-')}.json": json.dumps(model(one), indent=2)
        + "\n"
        for one in DASHBOARDS
    }
    if "--check" in sys.argv[1:]:
        stale = [file for file, text in wanted.items() if _read(file) != text]
        stale += [file for file in FOLDER.glob("*.json") if file not in wanted]
        for file in stale:
            sys.stderr.write(f"{file} is not what build.py writes: run it\n")
        return 1 if stale else 0
    for file, text in wanted.items():
        file.write_text(text)
    return 0


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
