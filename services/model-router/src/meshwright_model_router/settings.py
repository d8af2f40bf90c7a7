"""Settings of model-router: `MESHWRIGHT_MODELS__…`."""

import os
import re
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from meshwright_common.settings import CommonSettings, Section, ServiceName

OFFLINE_MODEL: Final = "offline"
"""The built-in model: always there, and the default until another one is configured."""
BUILTIN_EMBEDDING: Final = "builtin-384"
"""The built-in embedding model: always there."""

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXAMPLE: Final = "https://api.openai.com/v1"


def _base_url(value: str) -> str:
    """Return the URL without a slash at its end."""
    url = urlsplit(value.strip())
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"must start with http:// or https://, for example {_EXAMPLE}")
    try:
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if not host:
        raise ValueError(f"names no host; an example is {_EXAMPLE}")
    if url.username or url.password:
        raise ValueError("must hold no user and password; the key has a setting of its own")
    if url.query or url.fragment:
        raise ValueError("must end with the path, without ? and #")
    path = url.path.rstrip("/")
    for endpoint in ("/chat/completions", "/embeddings"):
        if path.endswith(endpoint):
            raise ValueError(f"must be the address before {endpoint}")
    return f"{url.scheme}://{url.netloc}{path}"


def _deployment_name(value: str) -> str:
    stem = value[:-1] if value.endswith("*") else value
    if not _MODEL_NAME.fullmatch(stem):
        raise ValueError(
            "must be 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, optionally with one * at the end"
        )
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
DeploymentName = Annotated[str, AfterValidator(_deployment_name)]


class TimeoutSettings(Section):
    """Limits of one request to a provider, in seconds."""

    connect_seconds: float = Field(default=3, gt=0, le=60)
    first_byte_seconds: float = Field(default=30, gt=0, le=900)
    """From sending the request to the first byte of the answer's body."""
    idle_seconds: float = Field(default=30, gt=0, le=900)
    """Longest silence within an answer."""
    total_seconds: float = Field(default=300, gt=0, le=3600)


class PriceSettings(Section):
    """Millionths of a US dollar per million tokens: 2.50 USD is 2500000."""

    input_micro_usd: int = Field(default=0, ge=0)
    output_micro_usd: int = Field(default=0, ge=0)
    cached_micro_usd: int | None = Field(default=None, ge=0)
    """Input served from the provider's cache. Unset: the price of input."""


class DeploymentSettings(Section):
    """A model at an OpenAI-compatible provider."""

    name: DeploymentName
    """What clients ask for. With `*` at the end, every name that starts so."""
    provider: Literal["openai"] = "openai"
    base_url: BaseUrl
    model: str = Field(default="", max_length=256)
    """What the provider is asked for. Unset: `name`. `*`: the name that the client asked for."""
    api_key: SecretStr = SecretStr("")
    api_key_env: str = ""
    """Variable that holds the key, instead of `api_key`."""
    context_window: int = Field(default=0, ge=0)
    """Tokens of input and output together; 0: unknown."""
    capabilities: tuple[Literal["tools", "vision", "json_schema", "reasoning"], ...] = ("tools",)
    prices: PriceSettings = PriceSettings()
    embedding_dimensions: int = Field(default=0, ge=0, le=16_384)
    """Length of its vectors. Not 0 makes this an embedding model, which does not generate."""
    timeouts: TimeoutSettings | None = None
    """Unset: those of the section."""
    output_limit_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """Name of the request's limit. auto: the newer name for OpenAI itself, the older elsewhere."""
    stream_usage: bool = True
    """Ask for usage in streams; a few old servers refuse that."""

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
    """The models. `base_url`, `api_key` and `model` are the short form for one real model."""

    base_url: BaseUrl | None = None
    api_key: SecretStr = SecretStr("")
    model: str = Field(default="", max_length=128)
    embedding_model: str = Field(default="", max_length=128)
    """An embedding model at the same address; becomes the default one."""
    embedding_dimensions: int = Field(default=0, ge=0, le=16_384)
    """Length of the vectors of `embedding_model`."""

    deployments: tuple[DeploymentSettings, ...] = ()
    default: str = ""
    """Model meant when a request names none. Unset: `model`, else the first deployment that
    generates and is no pattern, else the built-in model."""
    default_embedding: str = ""
    """Unset: `embedding_model`, else the built-in one: vectors of two models do not mix, so a
    deployment never becomes the default by being there."""

    timeouts: TimeoutSettings = TimeoutSettings()
    maximum_connections: int = Field(default=1000, ge=1, le=10_000)
    """Connections to one provider, that is requests at once."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base_url is not None and not (self.model or self.embedding_model):
            raise ValueError(
                "base_url is set without model; set MESHWRIGHT_MODELS__MODEL to its model's name"
            )
        if self.base_url is None and (self.model or self.embedding_model):
            raise ValueError(
                "model is set without base_url; set MESHWRIGHT_MODELS__BASE_URL to the provider's "
                f"address, for example {_EXAMPLE}"
            )
        if bool(self.embedding_model) != bool(self.embedding_dimensions):
            raise ValueError("embedding_model and embedding_dimensions belong together")
        names = [deployment.name for deployment in self.all_deployments()]
        for name in names:
            if names.count(name) > 1 or name in {OFFLINE_MODEL, BUILTIN_EMBEDDING}:
                raise ValueError(f"two models are named {name!r}")
        self._check_default("default", self.default_model(), embeds=False)
        self._check_default("default_embedding", self.default_embedding_model(), embeds=True)
        return self

    def _check_default(self, setting: str, name: str, *, embeds: bool) -> None:
        builtin = BUILTIN_EMBEDDING if embeds else OFFLINE_MODEL
        fitting = [
            one for one in self.all_deployments() if bool(one.embedding_dimensions) is embeds
        ]
        if name != builtin and not any(one.serves(name) for one in fitting):
            known = ", ".join([*(one.name for one in fitting), builtin])
            raise ValueError(
                f"MESHWRIGHT_MODELS__{setting.upper()} names {name!r}, which is none of: {known}"
            )

    def all_deployments(self) -> tuple[DeploymentSettings, ...]:
        """Return the deployments, those of the short form first."""
        if self.base_url is None:
            return self.deployments
        short: list[DeploymentSettings] = []
        if self.model:
            short.append(
                DeploymentSettings(name=self.model, base_url=self.base_url, api_key=self.api_key)
            )
        if self.embedding_model:
            short.append(
                DeploymentSettings(
                    name=self.embedding_model,
                    base_url=self.base_url,
                    api_key=self.api_key,
                    embedding_dimensions=self.embedding_dimensions,
                )
            )
        return (*short, *self.deployments)

    def default_model(self) -> str:
        """Return the model meant when a request names none."""
        if self.default or self.model:
            return self.default or self.model
        for deployment in self.deployments:
            if not deployment.embedding_dimensions and not deployment.name.endswith("*"):
                return deployment.name
        return OFFLINE_MODEL

    def default_embedding_model(self) -> str:
        """Return the embedding model meant when a request names none."""
        return self.default_embedding or self.embedding_model or BUILTIN_EMBEDDING


class Settings(CommonSettings):
    """Everything a model-router process reads."""

    service: ClassVar[ServiceName] = "model-router"

    models: ModelsSettings = ModelsSettings()
