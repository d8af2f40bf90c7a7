"""An API key as gRPC call credentials: exchanged for a short-lived token, renewed in time.

    endpoint = json.loads(Path(".meshwright/endpoint.json").read_text())
    credentials = loopback_channel_credentials(endpoint["url"], endpoint["api_key"])
    async with grpc.aio.secure_channel(endpoint["grpc"]["chat"], credentials) as channel:
        stub = ChatServiceStub(channel)

The same credentials serve channels of `grpc` and of `grpc.aio` and all kinds of calls. gRPC asks
for the token in a thread of its own, so an exchange never blocks an event loop.
"""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Final

import grpc

TOKEN_PATH: Final = "/api/v1/auth/token"  # noqa: S105 -- a path
TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 65536
RENEW_BEFORE_SECONDS: Final = 15.0
"""How long before its end a token is renewed. A call may be under way for longer than a token:
it is checked when the call arrives."""


class TokenRefused(Exception):
    """The gateway does not accept the API key. Trying again does not help."""


class TokenUnavailable(Exception):
    """The gateway could not be reached or did not answer with a token. Try again later."""


class TokenSource:
    """Exchanges an API key at the gateway for tokens and keeps the current one. Thread-safe."""

    def __init__(
        self, url: str, api_key: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("the URL of the gateway starts with http:// or https://")
        self._endpoint = url.rstrip("/") + TOKEN_PATH
        self._api_key = api_key
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._opener = urllib.request.build_opener(_NoRedirects())

    def token(self) -> str:
        """Return a token that is good for some seconds at least; renew it first when it is due.

        Blocks for up to 10 seconds when it has to ask. While the old token is good, failing to
        renew it is no error. Raises: TokenRefused; TokenUnavailable.
        """
        if self._clock() < self._renew_at:
            return self._token
        with self._lock:
            now = self._clock()
            if now < self._renew_at:
                return self._token
            try:
                self._token, life_seconds = self._exchange()
            except TokenUnavailable:
                if now < self._ends_at:
                    return self._token
                raise
            # Counted from before the exchange: the gateway's clock started after that.
            self._ends_at = now + life_seconds
            self._renew_at = now + max(life_seconds - RENEW_BEFORE_SECONDS, life_seconds / 2)
            return self._token

    def _exchange(self) -> tuple[str, float]:
        request = urllib.request.Request(  # noqa: S310 -- the scheme was checked
            self._endpoint,
            data=b'{"grant_type":"api_key"}',
            headers={
                "authorization": f"Bearer {self._api_key}",
                "content-type": "application/json",
                "accept": "application/json",
            },
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                body = answer.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (400, 401, 403):
                    raise TokenRefused(f"the gateway refused the API key: {error.code}") from None
                raise TokenUnavailable(f"the gateway answered {error.code}") from None
        except (OSError, HTTPException) as error:
            raise TokenUnavailable(f"the gateway cannot be reached: {error}") from None
        return _read(body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Never carry the API key to another address."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Plugin(grpc.AuthMetadataPlugin):
    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
    ) -> None:
        try:
            metadata = (("authorization", f"Bearer {self._source.token()}"),)
        except (TokenRefused, TokenUnavailable) as error:
            callback((), error)
        else:
            callback(metadata, None)


def api_key_credentials(url: str, api_key: str) -> grpc.CallCredentials:
    """Return call credentials that send a current token of `api_key` with every call.

    `url` is the gateway's, such as "https://platform.example.org". Compose them with TLS:
    `grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), …)`. When no token can be
    had, calls end with UNAVAILABLE and the reason in the details.
    """
    return grpc.metadata_call_credentials(_Plugin(TokenSource(url, api_key)), name="api-key")


def loopback_channel_credentials(url: str, api_key: str) -> grpc.ChannelCredentials:
    """Return channel credentials for a platform on this machine, which speaks without TLS.

    They connect to loopback addresses only: a token never crosses a network in the clear.
    """
    return grpc.composite_channel_credentials(
        grpc.local_channel_credentials(), api_key_credentials(url, api_key)
    )


def _read(body: bytes) -> tuple[str, float]:
    try:
        answer = json.loads(body)
        token, life_seconds = answer["access_token"], float(answer["expires_in"])
    except (ValueError, TypeError, KeyError):
        raise TokenUnavailable("the gateway's answer is not a token") from None
    if not isinstance(token, str) or not token.isascii() or not 0 < life_seconds < 86400:
        raise TokenUnavailable("the gateway's answer is not a token")
    return token, life_seconds
