"""Serves over TLS and starts so many child processes:  spawning_process.py CERTIFICATES COUNT

Tells its port, and ends with 0 when all children have ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc.aio

from meshwright_common.rpc.limits import SERVER_OPTIONS
from meshwright_common.rpc.tls import TlsFiles
from meshwright_common.runner import run_loop
from meshwright_common.settings import TlsSettings


async def main(folder: Path, count: int) -> None:
    settings = TlsSettings(
        ca_file=folder / "ca.crt",
        certificate_file=folder / "{service}.crt",
        key_file=folder / "{service}.key",
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    credentials = TlsFiles(settings, "rag").server_credentials()
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    await server.start()
    # Peers are connecting by then.
    await asyncio.sleep(0.2)
    for _ in range(count):
        child = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await child.communicate(b"heard")
        assert (child.returncode, said) == (0, b"heard")
    await server.stop(0)


if __name__ == "__main__":
    run_loop(main(Path(sys.argv[1]), int(sys.argv[2])))
