"""What the operator configured, as the routing table takes it."""

from typing import Final

from meshwright_common.settings import SettingsError
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.ports import EmbeddingProvider
from meshwright_model_router.domain.pricing import PriceHistory, Prices
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.routing_table import Operated
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.providers.building import (
    DEFAULT_CAPABILITIES,
    build_chat,
    build_embeddings,
    build_moderation,
    build_rerank,
    endpoint_for,
)
from meshwright_model_router.providers.builtin_embeddings.process import DIMENSIONS
from meshwright_model_router.providers.builtin_moderation import BuiltinModeration
from meshwright_model_router.providers.builtin_rerank import BuiltinRerank
from meshwright_model_router.providers.endpoint import AnthropicOptions, Endpoint, Timeouts
from meshwright_model_router.providers.factory import Factory, FactoryError
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.offline.chat import CONTEXT_WINDOW, OfflineChat
from meshwright_model_router.settings import (
    BUILTIN_EMBEDDING,
    BUILTIN_MODERATION,
    BUILTIN_RERANK,
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
RERANK: Final = Deployment(
    name=BUILTIN_RERANK, model=BUILTIN_RERANK, provider="builtin", capabilities=("rerank",)
)
MODERATION: Final = Deployment(
    name=BUILTIN_MODERATION,
    model=BUILTIN_MODERATION,
    provider="builtin",
    capabilities=("moderate",),
)


def operated(models: ModelsSettings, client: HttpClient, builtin: EmbeddingProvider) -> Operated:
    """Return what the settings say, and the built-in models.

    Raises: SettingsError when a factory makes no model.
    """
    served = [
        Served(DeploymentRecord(OFFLINE), Providers(chat=OfflineChat())),
        Served(DeploymentRecord(BUILTIN), Providers(embedding=builtin)),
        Served(DeploymentRecord(RERANK), Providers(rerank=BuiltinRerank(builtin))),
        Served(DeploymentRecord(MODERATION), Providers(moderation=BuiltinModeration())),
    ]
    for one in models.all_deployments():
        deployment, endpoint = deployment_of(one), endpoint_of(one, models)
        try:
            providers = providers_of(
                client, deployment, endpoint, Factory(one.factory, one.arguments)
            )
        except FactoryError as error:
            raise SettingsError(f"deployment {one.name!r}: factory {error}") from error
        served.append(Served(DeploymentRecord(deployment, endpoint.base_url), providers))
    return Operated(
        served=tuple(served),
        defaults={operation: models.default_of(operation) for operation in Operation},
        # Vectors of two models do not mix: what the platform embeds with is in every plan.
        everywhere=frozenset(
            {
                OFFLINE.model,
                BUILTIN.model,
                RERANK.model,
                MODERATION.model,
                models.default_embedding_model(),
            }
        ),
    )


def providers_of(
    client: HttpClient, deployment: Deployment, endpoint: Endpoint, factory: Factory | None
) -> Providers:
    """Return who serves each purpose of a deployment. Raises: InvalidArgument, FactoryError."""
    purposes = deployment.operations
    return Providers(
        chat=(
            build_chat(client, deployment, endpoint, factory)
            if Operation.GENERATE in purposes
            else None
        ),
        embedding=(
            build_embeddings(client, deployment, endpoint, factory)
            if Operation.EMBED in purposes
            else None
        ),
        rerank=(
            build_rerank(client, deployment, endpoint) if Operation.RERANK in purposes else None
        ),
        moderation=(
            build_moderation(client, deployment, endpoint)
            if Operation.MODERATE in purposes
            else None
        ),
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
        capabilities=capabilities_of(one),
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
    endpoint = Endpoint(
        deployment=one.name,
        base_url=one.base_url or "",
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
        stream_usage=one.stream_usage,
        api_version=one.api_version,
        continuous_usage=one.continuous_usage,
        embedding_encoding=one.embedding_encoding,
        anthropic=AnthropicOptions(
            output_tokens=one.default_output_tokens,
            prompt_cache=one.prompt_cache,
            thinking=one.thinking,
            structured_output=one.structured_output,
        ),
    )
    return endpoint_for(one.provider, endpoint, output_limit_field=one.output_limit_field)


def capabilities_of(one: DeploymentSettings) -> tuple[str, ...]:
    """Return what is configured; what a generating deployment of its kind can when nothing is."""
    if one.capabilities or Operation.GENERATE not in one.operations:
        return one.capabilities
    return DEFAULT_CAPABILITIES[one.provider]
