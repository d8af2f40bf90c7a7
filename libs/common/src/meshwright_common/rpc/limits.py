"""Transport numbers of the mesh (design: reliability.md D1), in one place for both sides."""

from typing import Final

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message either way, in every arrangement. Larger things go by the object store."""

CHANNEL_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # What it really is: how long a connection may take to be made, TLS included.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.primary_user_agent", "meshwright"),
)
"""Options of every client channel. Retries are `PolicyChannel`'s; the transport only repeats
calls that never left this process."""

INSTANCE_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    *(one for one in CHANNEL_OPTIONS if one[0] != "grpc.max_reconnect_backoff_ms"),
    # An instance that is known is expected back; who has gone leaves the registry.
    ("grpc.max_reconnect_backoff_ms", 500),
)
"""Options of a channel to one of several instances."""

OUTSIDE_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    *(
        one
        for one in CHANNEL_OPTIONS
        # gRPC's own server takes pings that are more frequent for an attack.
        if one[0] not in ("grpc.keepalive_time_ms", "grpc.keepalive_permit_without_calls")
    ),
    ("grpc.keepalive_time_ms", 300_000),
    # No proxy that the environment names: calls go to the address that was judged.
    ("grpc.enable_http_proxy", 0),
    # Each call is its own connection: what one was told of an address, no other hears.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options of a channel to a program that is none of ours."""

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The client pings every 20 s; at gRPC's default of 5 minutes that earns "too many pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 330_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_concurrent_streams", 1_000),
    # Two processes must not share a port unnoticed.
    ("grpc.so_reuseport", 0),
)
"""Options of every server."""
