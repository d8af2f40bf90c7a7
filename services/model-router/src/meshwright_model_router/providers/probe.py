"""Is a provider there, and does it take our key? For `meshwright doctor`, not for requests."""

import asyncio
from typing import Final

import aiohttp

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import from_connection, from_status, timed_out

PATH: Final = "models"
SECONDS: Final = 5.0
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})


async def probe(session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
    """Ask the provider for its list of models, which costs nothing; return when it answers.

    A provider without such a list is there all the same.
    Raises: ProviderUnavailable, ProviderTimeout, ProviderCredentials and the like, each naming the
    setting to check.
    """
    try:
        async with (
            asyncio.timeout(SECONDS),
            session.get(
                f"{endpoint.base_url}/{PATH}",
                headers=endpoint.request_headers,
                allow_redirects=False,
            ) as response,
        ):
            if response.status != 200 and response.status not in _NO_SUCH_PATH:
                body = await response.content.read(1024)
                raise from_status(endpoint, response.status, response.headers, body)
    except TimeoutError as error:
        raise timed_out(endpoint, "no answer", SECONDS) from error
    except (aiohttp.ClientError, OSError) as error:
        raise from_connection(endpoint, error) from error
