"""What the operator configured, in force: settings and the file of models, read when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from meshwright_common.errors import InvalidArgument
from meshwright_common.settings import SettingsError
from meshwright_common.telemetry.logging import get_logger
from meshwright_common.watched_files import WatchedFiles
from meshwright_model_router.adapters.metrics import MODELS_FILE_REFUSED
from meshwright_model_router.configured import (
    BUILTIN,
    MODERATION,
    OFFLINE,
    RERANK,
    built_in,
    endpoint_of,
    file_endpoint,
    from_file,
    from_settings,
    providers_of,
    timeouts_of,
)
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.errors import ProviderCredentials
from meshwright_model_router.domain.permits import Permits, Place
from meshwright_model_router.domain.ports import EmbeddingProvider
from meshwright_model_router.domain.pricing import PriceHistory, PricePeriod
from meshwright_model_router.domain.routing_administration import until_first
from meshwright_model_router.domain.routing_errors import EgressRefused
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.routing_table import Operated, RoutingTables
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.list_prices import list_prices
from meshwright_model_router.models_file import ModelsFile, read_models_file
from meshwright_model_router.providers.building import DEFAULT_CAPABILITIES, endpoint_for
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.settings import ModelsSettings
from meshwright_model_router.yaml_lines import Document, Mistake

PutInForce: TypeAlias = Callable[[], None]
TakeGuards: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], PutInForce]
"""Gets the file's guards, raises ValueError when they are wrong, returns what makes them count."""

_BUILT_IN: Final = {
    Operation.GENERATE: OFFLINE.model,
    Operation.EMBED: BUILTIN.model,
    Operation.RERANK: RERANK.model,
    Operation.MODERATE: MODERATION.model,
}
_SETTINGS: Final = {
    Operation.GENERATE: "default",
    Operation.EMBED: "default_embedding",
    Operation.RERANK: "default_rerank",
    Operation.MODERATE: "default_moderation",
}

_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that one reading of the configuration makes."""

    operated: Operated
    permits: Permits
    files: tuple[Path, ...]
    """What was read for it: the file of models and those of its keys."""
    put_guards: PutInForce


class Configuration:
    """The operator's deployments, policies, prices and permits, and the tables they are in.

    A file that is wrong changes nothing: the last good one stays in force, the log says why at each
    change of the file, and a metric says that it is so.
    """

    def __init__(
        self,
        models: ModelsSettings,
        client: HttpClient,
        builtin: EmbeddingProvider,
        take_guards: TakeGuards | None = None,
    ) -> None:
        """Read it for the first time. Raises: SettingsError when something is wrong with it."""
        self._models = models
        self._client = client
        self._built_in = built_in(builtin)
        self._take_guards = take_guards or _no_guards
        self._watched = WatchedFiles(*([models.file] if models.file else []))
        state = self._read()
        self._permits = state.permits
        self._watched.watch(*state.files)
        self.tables = RoutingTables(state.operated, self.serve)
        state.put_guards()

    @property
    def permits(self) -> Permits:
        """What deployments of tenants may do."""
        return self._permits

    async def watch(self) -> None:
        """Put into force what the file says whenever it changed, until cancelled."""
        path = self._models.file
        if path is None:
            return
        while True:
            await self._watched.changed()
            await self._reload(path)

    def address_of(self, record: DeploymentRecord) -> str:
        """Return where a deployment is. Raises: InvalidArgument naming base_url."""
        endpoint = Endpoint(deployment=record.name, base_url=record.base_url)
        return endpoint_for(record.deployment.provider, endpoint).base_url

    def list_prices(self, record: DeploymentRecord) -> Sequence[PricePeriod]:
        """Return the prices of the shipped list for a deployment."""
        one = record.deployment
        with suppress(InvalidArgument):
            return list_prices(
                one.provider, self.address_of(record), one.provider_model or one.model
            )
        return ()

    def serve(self, record: DeploymentRecord) -> Served:
        """Return a tenant's deployment with the ways to it.

        One that the operator does not allow any more gets no calls, as if it were disabled.
        """
        one = record.deployment
        if not one.capabilities:
            one = replace(one, capabilities=DEFAULT_CAPABILITIES[one.provider])
        listed = until_first(self.list_prices(record), one.prices.periods)
        one = replace(one, prices=PriceHistory.ordered([*listed, *one.prices.periods]))
        try:
            address = self.address_of(record)
            key = self._permits.check(one.tenant_id, address, record.credential_name)
        except (EgressRefused, ProviderCredentials, InvalidArgument) as error:
            _logger.info("deployment_not_allowed", deployment=one.name, reason=error.reason)
            return Served(replace(record, deployment=replace(one, disabled=True)), self._none(one))
        return Served(replace(record, deployment=one), self._providers(one, record, key))

    def _none(self, one: Deployment) -> Providers:
        """Return ways that nobody goes: the deployment is disabled, and has no key."""
        record = DeploymentRecord(one, "https://disabled.invalid")
        return self._providers(one, record, "")

    def _providers(self, one: Deployment, record: DeploymentRecord, key: str) -> Providers:
        endpoint = endpoint_for(
            one.provider,
            Endpoint(
                deployment=one.name,
                base_url=record.base_url,
                api_key=key,
                base_url_setting=f"base_url of deployment {one.name!r}",
                api_key_setting=f"credential {record.credential_name!r}",
                timeouts=timeouts_of(self._models.timeouts),
            ),
        )
        private = self._permits.is_private(Place.of(endpoint.base_url))
        return providers_of(self._client, one, replace(endpoint, public_only=not private), None)

    async def _reload(self, path: Path) -> None:
        try:
            state = await asyncio.to_thread(self._read)
        except SettingsError as error:
            MODELS_FILE_REFUSED.set(1)
            _logger.error("models_file_refused", file=str(path), cause=str(error))
            return
        MODELS_FILE_REFUSED.set(0)
        self._permits = state.permits
        self._watched.watch(*state.files)
        self.tables.put_operated(state.operated)
        state.put_guards()
        _logger.info("models_file_read", file=str(path))

    def _read(self) -> _State:
        """Read the configuration. Raises: SettingsError."""
        path = self._models.file
        if path is None:
            return self._state(ModelsFile())
        file, document = read_models_file(path)
        with document.located():
            return self._state(file, document)

    def _state(self, file: ModelsFile, document: Document | None = None) -> _State:
        permits = file.permits()
        settings = list(from_settings(self._models, self._client))
        filed = list(from_file(file, permits, self._models, self._client))
        names = {one.deployment.name for one in (*self._built_in, *settings)}
        for at, one in enumerate(filed):
            if one.deployment.name in names:
                raise Mistake(
                    ("deployments", at, "name"),
                    f"{one.deployment.name!r} is the name of another deployment, of the settings "
                    "or built in",
                )
        served = (*self._built_in, *settings, *filed)
        _check_policies(file, served)
        try:
            put_guards = self._take_guards(file.guards)
        except ValueError as error:
            raise Mistake(("guards",), str(error)) from None
        defaults = {one: self._default(one, file, served, filed) for one in Operation}
        # Vectors of two models do not mix: what the platform embeds with is in every plan.
        everywhere = frozenset({*_BUILT_IN.values(), defaults[Operation.EMBED]})
        operated = Operated(
            served, tuple(one.policy() for one in file.policies), defaults, everywhere
        )
        path = self._models.file
        files = () if path is None else (path, *file.key_files)
        return _State(operated, permits, files, put_guards)

    def _default(
        self,
        operation: Operation,
        file: ModelsFile,
        served: Sequence[Served],
        filed: Sequence[Served],
    ) -> str:
        """Return the model meant when nobody names one. Raises: Mistake when it is not there."""
        setting = _SETTINGS[operation]
        of_settings = self._models.default_of(operation)
        in_file: str = getattr(file, setting)
        named = bool(getattr(self._models, setting)) or (
            # The short form is one model, and it is the default.
            operation in {Operation.GENERATE, Operation.EMBED}
            and of_settings in {self._models.model, self._models.embedding_model}
        )
        chosen = of_settings if named or not in_file else in_file
        if not named and not in_file and chosen == _BUILT_IN[operation]:
            chosen = _first(operation, filed) or chosen
        if not any(
            operation in one.deployment.operations and one.deployment.serves(chosen)
            for one in served
        ):
            known = sorted(
                {o.deployment.model for o in served if operation in o.deployment.operations}
            )
            text = f"names {chosen!r}, which is none of: {', '.join(known)}"
            if named:
                raise SettingsError(f"MESHWRIGHT_MODELS__{setting.upper()} {text}")
            raise Mistake((setting,), text)
        return chosen


def endpoints(models: ModelsSettings) -> Iterator[tuple[str, Endpoint]]:
    """Yield the name and the place of each deployment of settings and file that is over HTTP.

    Raises: SettingsError when something is wrong with the file.
    """
    # What the operator's own code reaches is not ours to ask.
    for one in models.all_deployments():
        if one.provider != "langchain":
            yield one.name, endpoint_of(one, models)
    if models.file is None:
        return
    file, document = read_models_file(models.file)
    with document.located():
        permits = file.permits()
        for at, filed in enumerate(file.deployments):
            if filed.provider != "langchain" and not filed.disabled:
                yield filed.name, file_endpoint(at, filed, permits, models)


def _first(operation: Operation, served: Sequence[Served]) -> str:
    """Return the first model that may become the default by being there."""
    if operation is Operation.EMBED:
        return ""
    for one in (one.deployment for one in served):
        if operation in one.operations and not one.is_pattern and not one.disabled:
            return one.model
    return ""


def _check_policies(file: ModelsFile, served: Sequence[Served]) -> None:
    deployments = [one.deployment for one in served]
    for at, policy in enumerate(file.policies):
        for field in ("models", "fallback_models"):
            for number, model in enumerate(getattr(policy, field)):
                if not any(one.model == model or one.serves(model) for one in deployments):
                    raise Mistake(
                        ("policies", at, field, number), f"no deployment serves {model!r}"
                    )
        both = set(policy.models) & set(policy.fallback_models)
        if both:
            raise Mistake(
                ("policies", at, "fallback_models"), f"{min(both)!r} cannot stand in for itself"
            )


def _no_guards(guards: Sequence[Mapping[str, Any]]) -> PutInForce:
    if guards:
        raise ValueError("this process runs no guards")
    return lambda: None
