"""A request whose answer is one JSON body."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol
from meshwright_model_router.providers.http import HttpClient, post, read_body

T = TypeVar("T")


async def post_json(
    client: HttpClient,
    endpoint: Endpoint,
    path: str,
    request: Mapping[str, object],
    decode: Callable[[bytes], T],
    *,
    seconds_left: float | None,
) -> T:
    """Return what `decode` reads in the answer to `request`.

    Raises: as `http.post` and `http.read_body`; ProviderProtocol when it reads nothing.
    """
    total = endpoint.timeouts.total
    seconds = total if seconds_left is None else min(total, seconds_left)
    body = msgspec.json.encode(request)
    async with post(client, endpoint, path, body, seconds=seconds) as response:
        answer = await read_body(endpoint, response, seconds=seconds)
    try:
        return decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken_protocol(endpoint, f"its answer cannot be read ({error})") from error
