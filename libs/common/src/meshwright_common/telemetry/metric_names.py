"""Every metric name, once. Renaming one breaks dashboards: treat it as an interface."""

from typing import Final

RPC_SERVER_SECONDS: Final = "meshwright_rpc_server_seconds"
RPC_SERVER_RUNNING: Final = "meshwright_rpc_server_running"
RPC_CLIENT_RETRIES: Final = "meshwright_rpc_client_retries"
