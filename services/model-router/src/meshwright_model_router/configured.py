"""What the operator configured, as the routing table takes it."""

from typing import Final
from urllib.parse import urlsplit

from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.ports import EmbeddingProvider
from meshwright_model_router.domain.pricing import PriceHistory, Prices
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.routing_table import Operated
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.providers.builtin_embeddings.process import DIMENSIONS
from meshwright_model_router.providers.endpoint import Endpoint, OutputLimitField, Timeouts
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.offline.chat import CONTEXT_WINDOW, OfflineChat
from meshwright_model_router.providers.openai_chat import OpenAiChat
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings
from meshwright_model_router.settings import (
    BUILTIN_EMBEDDING,
    OFFLINE_MODEL,
    DeploymentSettings,
    ModelsSettings,
)

OFFLINE: Final = Deployment(
    name=OFFLINE_MODEL,
    model=OFFLINE_MODEL,
    provider="offline",
    context_window=CONTEXT_WINDOW,
    capabilities=("tools", "json_schema"),
)
BUILTIN: Final = Deployment(
    name=BUILTIN_EMBEDDING,
    model=BUILTIN_EMBEDDING,
    provider="builtin",
    embedding_dimensions=DIMENSIONS,
)


def operated(models: ModelsSettings, client: HttpClient, builtin: EmbeddingProvider) -> Operated:
    """Return what the settings say, and the built-in models."""
    served = [
        Served(DeploymentRecord(OFFLINE), Providers(chat=OfflineChat())),
        Served(DeploymentRecord(BUILTIN), Providers(embedding=builtin)),
    ]
    for one in models.all_deployments():
        deployment, endpoint = deployment_of(one), endpoint_of(one, models)
        if one.embedding_dimensions:
            vectors = OpenAiEmbeddings(client, endpoint, one.embedding_dimensions)
            providers = Providers(embedding=vectors)
        else:
            providers = Providers(chat=OpenAiChat(client, endpoint))
        served.append(Served(DeploymentRecord(deployment, one.base_url), providers))
    embedding = models.default_embedding_model()
    return Operated(
        served=tuple(served),
        defaults={Operation.GENERATE: models.default_model(), Operation.EMBED: embedding},
        # Vectors of two models do not mix: what the platform embeds with is in every plan.
        everywhere=frozenset({OFFLINE.model, BUILTIN.model, embedding}),
    )


def deployment_of(one: DeploymentSettings) -> Deployment:
    """Return a deployment of the settings; there the name is what clients ask for."""
    prices = one.prices
    return Deployment(
        name=one.name,
        model=one.name,
        provider=one.provider,
        provider_model=one.model,
        context_window=one.context_window,
        capabilities=one.capabilities,
        prices=PriceHistory.of(
            Prices(prices.input_micro_usd, prices.output_micro_usd, prices.cached_micro_usd)
        ),
        embedding_dimensions=one.embedding_dimensions,
    )


def endpoint_of(one: DeploymentSettings, models: ModelsSettings) -> Endpoint:
    """Return where a deployment of the settings is."""
    short = one not in models.deployments
    timeouts = one.timeouts or models.timeouts
    key_setting = "MESHWRIGHT_MODELS__API_KEY" if short else f"api_key of deployment {one.name!r}"
    return Endpoint(
        deployment=one.name,
        base_url=one.base_url,
        api_key=one.key,
        base_url_setting=(
            "MESHWRIGHT_MODELS__BASE_URL" if short else f"base_url of deployment {one.name!r}"
        ),
        api_key_setting=one.api_key_env or key_setting,
        timeouts=Timeouts(
            connect=timeouts.connect_seconds,
            first_byte=timeouts.first_byte_seconds,
            idle=timeouts.idle_seconds,
            total=timeouts.total_seconds,
        ),
        output_limit_field=_output_limit_field(one),
        stream_usage=one.stream_usage,
    )


def _output_limit_field(one: DeploymentSettings) -> OutputLimitField:
    if one.output_limit_field != "auto":
        return one.output_limit_field
    host = urlsplit(one.base_url).hostname or ""
    # OpenAI's reasoning models refuse the old name; many other servers do not know the new one.
    if host == "api.openai.com" or host.endswith(".openai.azure.com"):
        return "max_completion_tokens"
    return "max_tokens"
