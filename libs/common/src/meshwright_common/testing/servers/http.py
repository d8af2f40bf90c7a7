"""Asking a server of tests by HTTP, blocking."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPResponse
from typing import Any, Final

ANSWER_SECONDS: Final = 5.0


def get_json(url: str) -> Any:
    """Return the JSON behind `url`; None when the server refuses. Raises: OSError."""
    try:
        with _ask("GET", url) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None


def put(url: str) -> bool:
    """Put nothing to `url` and say whether the server took it. Raises: OSError."""
    try:
        with _ask("PUT", url):
            return True
    except urllib.error.HTTPError:
        return False


def _ask(method: str, url: str) -> HTTPResponse:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - a server of ours
    # The loopback is not behind anybody's proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer: HTTPResponse = opener.open(request, timeout=ANSWER_SECONDS)
    return answer
