"""A process for the tests of the servers: starts one, says where it is, and stays until it dies.

Arguments: name in the catalogue, folder.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from meshwright_common.testing.servers.catalogue import SERVERS


def main() -> None:
    server = SERVERS[sys.argv[1]](Path(sys.argv[2]))
    server.start()
    print(json.dumps({"address": server.address, "ports": server.ports}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
