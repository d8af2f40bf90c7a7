"""What requests to an MCP server carry to be let in."""

from __future__ import annotations

import asyncio
import base64
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from meshwright_common.clock import Clock
from meshwright_common.egress import EgressClient
from meshwright_tool_exec.domain.errors import McpServerUnauthorized, McpServerUnavailable
from meshwright_tool_exec.domain.mcp_servers import (
    BearerToken,
    Credential,
    HeaderValue,
    OauthClient,
)

MAX_ANSWER_BYTES: Final = 64 * 1024
TOKEN_TIMEOUT_SECONDS: Final = 5.0
RENEWED_EARLIER_SECONDS: Final = 30.0
"""A token is not used in its last moments: it would end on the way."""
DEFAULT_LIFE_SECONDS: Final = 300.0
"""Of a token whose life nobody tells."""
_OK: Final = 200


class Credentials:
    """The headers of one server's credential; tokens of OAuth are fetched and kept in memory."""

    def __init__(self, credential: Credential | None, egress: EgressClient, clock: Clock) -> None:
        self._credential = credential
        self._egress = egress
        self._clock = clock
        self._token = ""
        self._good_until = 0.0
        self._fetching = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """Return the headers to send. Raises: McpServerUnauthorized, McpServerUnavailable, Egress…

        The errors are about the token's endpoint: nothing went to the server.
        """
        match self._credential:
            case BearerToken(token):
                return {"authorization": f"Bearer {token}"}
            case HeaderValue(name, value):
                return {name.lower(): value}
            case OauthClient() as client:
                async with self._fetching:
                    if not self._token or self._clock.monotonic() >= self._good_until:
                        await self._fetch(client)
                    return {"authorization": f"Bearer {self._token}"}
            case None:
                return {}

    def renew(self) -> bool:
        """Forget a token that was refused; return whether there may be another one."""
        had, self._token = bool(self._token), ""
        return had

    async def _fetch(self, client: OauthClient) -> None:
        # RFC 6749, 2.3.1 and 4.4: both parts are form-encoded before they become Basic.
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
        form = {"grant_type": "client_credentials"}
        if client.scopes:
            form["scope"] = " ".join(client.scopes)
        answer = await self._egress.fetch(
            "POST",
            client.token_url,
            headers={
                "authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "content-type": "application/x-www-form-urlencoded",
                "accept": "application/json",
            },
            body=urlencode(form).encode(),
            max_bytes=MAX_ANSWER_BYTES,
            timeout_seconds=TOKEN_TIMEOUT_SECONDS,
        )
        if answer.status in {400, 401, 403}:
            raise McpServerUnauthorized(f"the token endpoint refused the client ({answer.status})")
        try:
            content = orjson.loads(answer.body) if answer.status == _OK else {}
            token = content["access_token"]
            life_seconds = float(content.get("expires_in", DEFAULT_LIFE_SECONDS))
        except (KeyError, TypeError, ValueError, AttributeError):
            token, life_seconds = None, 0.0
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise McpServerUnavailable(f"the token endpoint gave no token ({answer.status})")
        self._token = token
        self._good_until = self._clock.monotonic() + max(life_seconds - RENEWED_EARLIER_SECONDS, 1)
