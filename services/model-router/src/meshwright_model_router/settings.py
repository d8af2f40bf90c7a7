"""Settings of model-router: `MESHWRIGHT_MODELS__…`."""

import os
import re
from pathlib import Path
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from meshwright_common.settings import CommonSettings, Section, ServiceName, SettingsError
from meshwright_model_router.answer_settings import (
    AnswerCacheSettings,
    GuardSettings,
    PythonGuardSettings,
)
from meshwright_model_router.deployment_settings import (
    ModelPattern,
    ServedSettings,
    TimeoutSettings,
)
from meshwright_model_router.domain.addresses import EXAMPLE_URL
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.limit_settings import LimitSettings
from meshwright_model_router.models_file import read_models_file
from meshwright_model_router.provider_settings import BaseUrl

OFFLINE_MODEL: Final = "offline"
"""The built-in model: always there, and the default until another one is configured."""
BUILTIN_EMBEDDING: Final = "builtin-384"
"""The built-in embedding model: always there."""
BUILTIN_RERANK: Final = "builtin-rerank"
"""The built-in rerank model: always there."""
BUILTIN_MODERATION: Final = "builtin-moderation"
"""The built-in moderation model: always there."""

_BUILTIN: Final = {
    Operation.GENERATE: OFFLINE_MODEL,
    Operation.EMBED: BUILTIN_EMBEDDING,
    Operation.RERANK: BUILTIN_RERANK,
    Operation.MODERATE: BUILTIN_MODERATION,
}
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULTS: Final = {
    "default": Operation.GENERATE,
    "default_embedding": Operation.EMBED,
    "default_rerank": Operation.RERANK,
    "default_moderation": Operation.MODERATE,
}


class DeploymentSettings(ServedSettings):
    """A model at a provider, short: its name is what clients ask for."""

    name: ModelPattern
    """What clients ask for. With `*` at the end, every name that starts so."""
    model: str = Field(default="", max_length=256)
    """What the provider is asked for. Unset: `name`. `*`: the name that the client asked for."""
    api_key: SecretStr = SecretStr("")
    api_key_env: str = ""
    """Variable that holds the key, instead of `api_key`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model == "*" and not self.name.endswith("*"):
            raise ValueError("model may be * only when name ends with *")
        if self.name.endswith("*") and not self.model:
            raise ValueError("model must be set (or *) when name ends with *")
        if self.api_key_env:
            if self.api_key.get_secret_value():
                raise ValueError("set api_key or api_key_env, not both")
            if not _VARIABLE_NAME.fullmatch(self.api_key_env):
                raise ValueError("api_key_env must be the name of an environment variable")
            if self.api_key_env not in os.environ:
                raise ValueError(f"api_key_env names {self.api_key_env}, which is not set")
        return self

    @property
    def key(self) -> str:
        """The API key; empty: the provider needs none."""
        if self.api_key_env:
            return os.environ.get(self.api_key_env, "")
        return self.api_key.get_secret_value()

    def serves(self, name: str) -> bool:
        """Return whether a request for `name` may come here."""
        if self.name.endswith("*"):
            return name.startswith(self.name[:-1])
        return name == self.name


class ModelsSettings(Section):
    """The models. `base_url`, `api_key` and `model` are the short form for one real model.

    `provider` belongs to the short form; with "anthropic" it needs no base_url.
    """

    provider: Literal["openai", "azure", "anthropic"] = "openai"
    base_url: BaseUrl | None = None
    api_key: SecretStr = SecretStr("")
    model: str = Field(default="", max_length=128)
    embedding_model: str = Field(default="", max_length=128)
    """An embedding model at the same address; becomes the default one."""
    embedding_dimensions: int = Field(default=0, ge=0, le=16_384)
    """Length of the vectors of `embedding_model`."""

    deployments: tuple[DeploymentSettings, ...] = ()
    file: Path | None = None
    """YAML file of deployments, policies, prices, credentials and guards, read again while the
    service runs, whenever it changes; see docs/models.md."""
    default: str = ""
    """Model meant when a request names none. Unset: `model`, else the first deployment that
    generates and is no pattern, else the built-in model."""
    default_embedding: str = ""
    """Unset: `embedding_model`, else the built-in one: vectors of two models do not mix, so a
    deployment never becomes the default by being there."""
    default_rerank: str = ""
    """Unset: the first deployment that reranks and is no pattern, else the built-in one."""
    default_moderation: str = ""
    """Unset: the first deployment that moderates and is no pattern, else the built-in one."""

    answers: AnswerCacheSettings = AnswerCacheSettings()
    guards: tuple[GuardSettings, ...] = ()
    """Guards of the operator's, for all tenants; those of `file` come after them."""
    python_guards: dict[str, PythonGuardSettings] = Field(default_factory=dict)
    """Code that guards of kind python name."""

    timeouts: TimeoutSettings = TimeoutSettings()
    maximum_connections: int = Field(default=1000, ge=1, le=10_000)
    """Connections to one provider, that is requests at once."""

    @field_validator("file")
    @classmethod
    def _is_right(cls, file: Path | None) -> Path | None:
        if file is not None:
            try:
                read_models_file(file)
            except SettingsError as error:
                # Found before anything starts.
                raise ValueError(str(error)) from None
        return file

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base_url is not None and not (self.model or self.embedding_model):
            raise ValueError(
                "base_url is set without model; set MESHWRIGHT_MODELS__MODEL to its model's name"
            )
        if self.base_url is None and self._needs_address:
            raise ValueError(
                "model is set without base_url; set MESHWRIGHT_MODELS__BASE_URL to the provider's "
                f"address, for example {EXAMPLE_URL}"
            )
        if bool(self.embedding_model) != bool(self.embedding_dimensions):
            raise ValueError("embedding_model and embedding_dimensions belong together")
        names = [deployment.name for deployment in self.all_deployments()]
        for name in names:
            if names.count(name) > 1 or name in _BUILTIN.values():
                raise ValueError(f"two models are named {name!r}")
        for setting, operation in _DEFAULTS.items():
            self._check_default(setting, operation)
        return self

    @property
    def _needs_address(self) -> bool:
        own_address = self.provider == "anthropic" and not self.embedding_model
        return bool(self.model or self.embedding_model) and not own_address

    def _check_default(self, setting: str, operation: Operation) -> None:
        if self.file is not None:
            # The file may have it; it is looked for when that is read.
            return
        name = self.default_of(operation)
        fitting = [one for one in self.all_deployments() if operation in one.operations]
        if name != _BUILTIN[operation] and not any(one.serves(name) for one in fitting):
            known = ", ".join([*(one.name for one in fitting), _BUILTIN[operation]])
            raise ValueError(
                f"MESHWRIGHT_MODELS__{setting.upper()} names {name!r}, which is none of: {known}"
            )

    def all_deployments(self) -> tuple[DeploymentSettings, ...]:
        """Return the deployments, those of the short form first."""
        short: list[DeploymentSettings] = []
        for name, dimensions in (
            (self.model, 0),
            (self.embedding_model, self.embedding_dimensions),
        ):
            if name and (self.base_url is not None or not self._needs_address):
                short.append(
                    DeploymentSettings(
                        name=name,
                        provider=self.provider,
                        base_url=self.base_url,
                        api_key=self.api_key,
                        embedding_dimensions=dimensions,
                    )
                )
        return (*short, *self.deployments)

    def default_of(self, operation: Operation) -> str:
        """Return the model meant when a request names none."""
        if operation is Operation.GENERATE:
            return self.default_model()
        if operation is Operation.EMBED:
            return self.default_embedding_model()
        reranks = operation is Operation.RERANK
        configured = self.default_rerank if reranks else self.default_moderation
        return configured or self._first(operation)

    def _first(self, operation: Operation) -> str:
        for deployment in self.deployments:
            if operation in deployment.operations and not deployment.name.endswith("*"):
                return deployment.name
        return _BUILTIN[operation]

    def default_model(self) -> str:
        """Return the model meant when a request names none."""
        if self.default or self.model:
            return self.default or self.model
        return self._first(Operation.GENERATE)

    def default_embedding_model(self) -> str:
        """Return the embedding model meant when a request names none."""
        return self.default_embedding or self.embedding_model or BUILTIN_EMBEDDING


class Settings(CommonSettings):
    """Everything a model-router process reads."""

    service: ClassVar[ServiceName] = "model-router"

    models: ModelsSettings = ModelsSettings()
    limits: LimitSettings = LimitSettings()
