"""From what is configured for a deployment to the provider that speaks to its model.

Kinds: `openai` is everything that is compatible with it, `azure` and `anthropic` have addresses
and headers of their own, `langchain` is a Python class that the operator names. A tenant's
deployments come here as well; they have no `Factory`, so they never run code of their own.
"""

from dataclasses import replace
from typing import Final, Literal
from urllib.parse import urlsplit

from meshwright_common.errors import invalid
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.ports_other import ModerationProvider, RerankProvider
from meshwright_model_router.providers.anthropic_chat import ANTHROPIC_VERSION, AnthropicChat
from meshwright_model_router.providers.endpoint import BEARER, Endpoint
from meshwright_model_router.providers.factory import Factory
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.moderation import OpenAiModeration
from meshwright_model_router.providers.openai_chat import OpenAiChat
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings
from meshwright_model_router.providers.rerank import HttpRerank

Kind = Literal["openai", "azure", "anthropic", "langchain"]
KINDS: Final[tuple[Kind, ...]] = ("openai", "azure", "anthropic", "langchain")

_ANYTHING: Final = ("tools", "vision", "json_schema")
DEFAULT_CAPABILITIES: Final[dict[str, tuple[str, ...]]] = {kind: _ANYTHING for kind in KINDS}
"""What a deployment that generates can do when nobody says: a model that cannot refuses itself."""
DEFAULT_ADDRESSES: Final[dict[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}
"""The providers' own; Azure's is another one for each customer."""

_NEWER_LIMIT_FIELD: Final = (".openai.azure.com", ".cognitiveservices.azure.com")


def endpoint_for(kind: str, endpoint: Endpoint, *, output_limit_field: str = "auto") -> Endpoint:
    """Return `endpoint` as the kind wants it: address, the header of the key, further headers.

    An empty `base_url` becomes the provider's own. Raises: InvalidArgument naming base_url.
    """
    if kind == "langchain":
        return endpoint
    base_url = endpoint.base_url or DEFAULT_ADDRESSES.get(kind, "")
    if not base_url:
        raise invalid("base_url", f"must be set for provider {kind!r}")
    if kind == "anthropic":
        return replace(
            endpoint,
            base_url=base_url,
            key_header="x-api-key",
            headers=(*endpoint.headers, ("anthropic-version", ANTHROPIC_VERSION)),
        )
    if kind == "azure":
        base_url = _azure_address(base_url, by_deployment=endpoint.by_deployment)
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    host = urlsplit(base_url).hostname or ""
    # OpenAI's reasoning models refuse the old name; many other servers do not know the new one.
    newer = kind == "azure" or host == "api.openai.com" or host.endswith(_NEWER_LIMIT_FIELD)
    if output_limit_field == "max_completion_tokens" or (output_limit_field == "auto" and newer):
        limit_field = "max_completion_tokens"
    return replace(
        endpoint,
        base_url=base_url,
        key_header="api-key" if kind == "azure" else BEARER,
        output_limit_field=limit_field,
    )


def build_chat(
    client: HttpClient,
    deployment: Deployment,
    endpoint: Endpoint,
    factory: Factory | None = None,
) -> ChatProvider:
    """Return who generates for `deployment`; `endpoint` as `endpoint_for` makes it.

    Raises: InvalidArgument naming provider, when the kind is not known, or is `langchain` without
    a factory.
    """
    if deployment.provider == "langchain":
        # Only who uses it pays for its import.
        from meshwright_model_router.providers.langchain_chat import (  # noqa: PLC0415
            LangChainChat,
        )

        return LangChainChat(_factory(factory), endpoint)
    if deployment.provider == "anthropic":
        return AnthropicChat(client, endpoint)
    _check_kind(deployment.provider, "generate")
    return OpenAiChat(client, endpoint)


def build_embeddings(
    client: HttpClient,
    deployment: Deployment,
    endpoint: Endpoint,
    factory: Factory | None = None,
) -> EmbeddingProvider:
    """Return who embeds for `deployment`. Raises: as `build_chat`."""
    if deployment.provider == "langchain":
        from meshwright_model_router.providers.langchain_embeddings import (  # noqa: PLC0415
            LangChainEmbeddings,
        )

        return LangChainEmbeddings(_factory(factory), endpoint, deployment.embedding_dimensions)
    _check_kind(deployment.provider, "embed")
    return OpenAiEmbeddings(client, endpoint, deployment.embedding_dimensions)


def build_rerank(client: HttpClient, deployment: Deployment, endpoint: Endpoint) -> RerankProvider:
    """Return who reranks for `deployment`. Raises: as `build_chat`."""
    _check_kind(deployment.provider, "rerank")
    return HttpRerank(client, endpoint)


def build_moderation(
    client: HttpClient, deployment: Deployment, endpoint: Endpoint
) -> ModerationProvider:
    """Return who moderates for `deployment`. Raises: as `build_chat`."""
    _check_kind(deployment.provider, "moderate")
    return OpenAiModeration(client, endpoint)


def _factory(factory: Factory | None) -> Factory:
    if factory is None:
        raise invalid("provider", "'langchain' is for deployments of the operator's configuration")
    return factory


def _check_kind(kind: str, purpose: str) -> None:
    if kind not in {"openai", "azure"}:
        raise invalid("provider", f"{kind!r} cannot {purpose}")


def _azure_address(base_url: str, *, by_deployment: bool) -> str:
    """Return the address before the operation; a bare resource gets the path of its style."""
    path = urlsplit(base_url).path
    if path in {"", "/openai"}:
        base_url = f"{base_url.removesuffix('/openai')}/openai"
        return base_url if by_deployment else f"{base_url}/v1"
    return base_url
