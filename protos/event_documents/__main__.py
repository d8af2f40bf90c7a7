"""`python -m protos.event_documents`: write docs/events, or with --release also its baseline."""

from __future__ import annotations

import sys
from pathlib import Path

from protos.event_documents.documents import BASELINE, FOLDER, documents, snapshot_text, write
from protos.event_documents.messages import ProtoError, read_protos


def main(arguments: list[str]) -> int:
    try:
        protos = read_protos()
        write(documents(protos), FOLDER)
        if "--release" in arguments:
            Path(BASELINE).write_text(snapshot_text(protos), encoding="utf-8")
    except ProtoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
