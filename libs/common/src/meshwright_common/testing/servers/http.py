"""Asking a server of tests by HTTP, blocking."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final

ANSWER_SECONDS: Final = 5.0


def get_json(url: str) -> Any:
    """Return the JSON behind `url`; None when the server refuses. Raises: OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None
