"""Calling Meshwright from other programs: an API key as gRPC credentials."""

from meshwright_credentials.api_key import (
    TokenRefused,
    TokenSource,
    TokenUnavailable,
    api_key_credentials,
    loopback_channel_credentials,
)

__all__ = [
    "TokenRefused",
    "TokenSource",
    "TokenUnavailable",
    "api_key_credentials",
    "loopback_channel_credentials",
]
