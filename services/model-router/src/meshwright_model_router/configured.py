"""What the operator configured, as the routing table takes it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from meshwright_common.settings import SettingsError
from meshwright_model_router.deployment_settings import ServedSettings, TimeoutSettings
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.permits import Permits, Place
from meshwright_model_router.domain.ports import EmbeddingProvider
from meshwright_model_router.domain.pricing import PriceHistory
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.list_prices import list_prices
from meshwright_model_router.models_file import DeploymentSection, ModelsFile
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
from meshwright_model_router.yaml_lines import Mistake

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


def built_in(builtin: EmbeddingProvider) -> tuple[Served, ...]:
    """Return the models that are always there."""
    return (
        Served(DeploymentRecord(OFFLINE), Providers(chat=OfflineChat())),
        Served(DeploymentRecord(BUILTIN), Providers(embedding=builtin)),
        Served(DeploymentRecord(RERANK), Providers(rerank=BuiltinRerank(builtin))),
        Served(DeploymentRecord(MODERATION), Providers(moderation=BuiltinModeration())),
    )


def from_settings(models: ModelsSettings, client: HttpClient) -> Iterator[Served]:
    """Yield the deployments of the settings. Raises: SettingsError when a factory has no model."""
    for one in models.all_deployments():
        deployment, endpoint = deployment_of(one, models), endpoint_of(one, models)
        try:
            providers = providers_of(client, deployment, endpoint, factory_of(one))
        except FactoryError as error:
            raise SettingsError(f"deployment {one.name!r}: factory {error}") from error
        yield Served(DeploymentRecord(deployment, endpoint.base_url), providers)


def from_file(
    file: ModelsFile, permits: Permits, models: ModelsSettings, client: HttpClient
) -> Iterator[Served]:
    """Yield the deployments of the operator's file. Raises: Mistake."""
    for at, one in enumerate(file.deployments):
        endpoint = file_endpoint(at, one, permits, models)
        deployment = Deployment(
            name=one.name,
            model=one.asked,
            provider=one.provider,
            provider_model=one.provider_model,
            disabled=one.disabled,
            priority=one.priority,
            weight=one.weight,
            limits=one.carries,
            context_window=one.context_window,
            capabilities=capabilities_of(one),
            prices=prices_of(one, endpoint.base_url, one.provider_model or one.asked),
            embedding_dimensions=one.embedding_dimensions,
        )
        try:
            providers = providers_of(client, deployment, endpoint, factory_of(one))
        except FactoryError as error:
            raise Mistake(("deployments", at, "factory"), str(error)) from error
        record = DeploymentRecord(deployment, endpoint.base_url, one.credential_name)
        yield Served(record, providers)


def file_endpoint(
    at: int, one: DeploymentSection, permits: Permits, models: ModelsSettings
) -> Endpoint:
    """Return where a deployment of the file is, with its key. Raises: Mistake."""
    endpoint = _endpoint(one, models, f"base_url of deployment {one.name!r}")
    if not one.credential_name:
        return endpoint
    credential = permits.credentials.get(one.credential_name)
    path = ("deployments", at, "credential_name")
    if credential is None:
        raise Mistake(path, f"there is no credential {one.credential_name!r}")
    if one.provider == "langchain":
        raise Mistake(path, "a factory takes its key from arguments or its environment")
    place = Place.of(endpoint.base_url)
    if place.address not in credential.hosts:
        raise Mistake(path, f"credential {credential.name!r} is not for {place.address}")
    return replace(
        endpoint,
        api_key=credential.secret,
        api_key_setting=f"credential {one.credential_name!r}",
    )


def factory_of(one: ServedSettings) -> Factory | None:
    """Return what makes a deployment's model, if it is a factory."""
    return Factory(one.factory, one.all_arguments) if one.factory else None


def prices_of(one: ServedSettings, base_url: str, model: str) -> PriceHistory:
    """Return the prices that are configured, else those of the shipped list."""
    if one.prices:
        return one.price_history
    return PriceHistory(list_prices(one.provider, base_url, model))


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


def deployment_of(one: DeploymentSettings, models: ModelsSettings) -> Deployment:
    """Return a deployment of the settings; there the name is what clients ask for."""
    return Deployment(
        name=one.name,
        model=one.name,
        provider=one.provider,
        provider_model=one.model,
        context_window=one.context_window,
        capabilities=capabilities_of(one),
        prices=prices_of(one, endpoint_of(one, models).base_url, one.model or one.name),
        embedding_dimensions=one.embedding_dimensions,
    )


def endpoint_of(one: DeploymentSettings, models: ModelsSettings) -> Endpoint:
    """Return where a deployment of the settings is."""
    short = one not in models.deployments
    setting = "MESHWRIGHT_MODELS__BASE_URL" if short else f"base_url of deployment {one.name!r}"
    key_setting = "MESHWRIGHT_MODELS__API_KEY" if short else f"api_key of deployment {one.name!r}"
    return replace(
        _endpoint(one, models, setting),
        api_key=one.key,
        api_key_setting=one.api_key_env or key_setting,
    )


def timeouts_of(settings: TimeoutSettings) -> Timeouts:
    """Return the limits of a request."""
    return Timeouts(
        connect=settings.connect_seconds,
        first_byte=settings.first_byte_seconds,
        idle=settings.idle_seconds,
        total=settings.total_seconds,
    )


def _endpoint(
    one: DeploymentSettings | DeploymentSection, models: ModelsSettings, setting: str
) -> Endpoint:
    """Return where a deployment is, without its key."""
    endpoint = Endpoint(
        deployment=one.name,
        base_url=one.base_url or "",
        base_url_setting=setting,
        timeouts=timeouts_of(one.timeouts or models.timeouts),
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


def capabilities_of(one: ServedSettings) -> tuple[str, ...]:
    """Return what is configured; what a generating deployment of its kind can when nothing is."""
    if one.capabilities or Operation.GENERATE not in one.operations:
        return one.capabilities
    return DEFAULT_CAPABILITIES[one.provider]
