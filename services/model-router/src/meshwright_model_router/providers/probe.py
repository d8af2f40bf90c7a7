"""Is a provider there, and does it take our key? For `meshwright doctor`, not for requests."""

from typing import Final

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import from_connection, timed_out
from meshwright_model_router.providers.http import OK, HttpClient, refusal
from meshwright_model_router.providers.http_client.errors import HeadTimeout

PATH: Final = "models"
SECONDS: Final = 5.0
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})


async def probe(client: HttpClient, endpoint: Endpoint) -> None:
    """Ask the provider for its list of models, which costs nothing; return when it answers.

    A provider without such a list is there all the same.
    Raises: ProviderUnavailable, ProviderTimeout, ProviderCredentials and the like, each naming the
    setting to check.
    """
    path = f"{PATH}?api-version={endpoint.api_version}" if endpoint.api_version else PATH
    try:
        response = await client.get(
            endpoint.base_url,
            path,
            endpoint.request_headers,
            connect_seconds=SECONDS,
            seconds=SECONDS,
            public_only=endpoint.public_only,
        )
    except HeadTimeout as error:
        raise timed_out(endpoint, "no answer", SECONDS) from error
    except OSError as error:
        raise from_connection(endpoint, error) from error
    try:
        if response.status != OK and response.status not in _NO_SUCH_PATH:
            raise await refusal(endpoint, response)
    finally:
        response.release()
