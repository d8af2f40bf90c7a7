"""LiteLLM's proxy at its best: uvloop and httptools, one worker, no database, Redis or callbacks.

Run by the Python of its own environment (infra/dev/peers.sh), which has nothing of the platform:

    <python> bench/peers/litellm_server.py --upstream http://127.0.0.1:9000 --key sk-bench

prints `listening 127.0.0.1:PORT` when it is ready.
"""

import argparse
import importlib
import json
import os
import socket
import tempfile
from pathlib import Path

BACKLOG = 2048


def _configuration(upstream: str, key: str) -> dict[str, object]:
    parameters = {"model": "openai/sim", "api_base": f"{upstream}/v1", "api_key": "sk-sim"}
    return {
        "model_list": [{"model_name": "sim", "litellm_params": parameters}],
        "litellm_settings": {
            "callbacks": [],
            "drop_params": True,
            "num_retries": 0,
            "request_timeout": 600,
            "set_verbose": False,
            "telemetry": False,
        },
        "general_settings": {"master_key": key, "disable_spend_logs": True},
    }


def main() -> None:
    """Serve until interrupted or terminated."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--upstream", required=True, help="base URL without /v1")
    arguments.add_argument("--key", required=True, help="what clients have to show")
    options = arguments.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    with tempfile.TemporaryDirectory(prefix="bench-litellm-") as folder:
        path = Path(folder) / "config.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(_configuration(options.upstream, options.key)))
        os.environ |= {
            "CONFIG_FILE_PATH": str(path),
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            # Prices from its own package: nothing is fetched.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
            "LITELLM_LOCAL_BLOG_POSTS": "True",
        }
        _serve(listener)


def _serve(listener: socket.socket) -> None:
    # Imported here: it reads its settings from the environment when it is loaded.
    import uvicorn  # noqa: PLC0415

    app = importlib.import_module("litellm.proxy.proxy_server").app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"listening 127.0.0.1:{listener.getsockname()[1]}", flush=True)

    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
