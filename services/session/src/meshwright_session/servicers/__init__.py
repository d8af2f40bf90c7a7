"""The five services: protobuf in, domain call, protobuf out."""

from typing import Any, TypeAlias

import grpc.aio

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; unused here: the interceptors bind what matters."""
