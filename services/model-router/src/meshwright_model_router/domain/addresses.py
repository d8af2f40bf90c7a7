"""Addresses of providers: what one may look like."""

from typing import Final
from urllib.parse import urlsplit

EXAMPLE_URL: Final = "https://api.openai.com/v1"
ENDPOINTS: Final = ("/chat/completions", "/embeddings", "/messages", "/rerank", "/moderations")


def base_url_from(value: str) -> str:
    """Return the URL without a slash at its end. Raises: ValueError that says what is wrong."""
    url = urlsplit(value.strip())
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"must start with http:// or https://, for example {EXAMPLE_URL}")
    try:
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if not host:
        raise ValueError(f"names no host; an example is {EXAMPLE_URL}")
    if url.username or url.password:
        raise ValueError("must hold no user and password; the key has a setting of its own")
    if url.query or url.fragment:
        raise ValueError("must end with the path, without ? and #")
    path = url.path.rstrip("/")
    for endpoint in ENDPOINTS:
        if path.endswith(endpoint):
            raise ValueError(f"must be the address before {endpoint}")
    return f"{url.scheme}://{url.netloc}{path}"
