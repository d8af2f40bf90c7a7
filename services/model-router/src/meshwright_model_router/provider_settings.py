"""Settings that belong to a kind of provider."""

import importlib.util
import os
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from meshwright_common.settings import Section
from meshwright_model_router.domain.addresses import base_url_from
from meshwright_model_router.providers.factory import FactoryError, module_of

ProviderKind = Literal["openai", "azure", "anthropic", "langchain"]
Capability = Literal[
    "generate", "embed", "rerank", "moderate", "tools", "vision", "json_schema", "reasoning"
]


def _factory(value: str) -> str:
    """Check that the module of a factory is installed; it is imported when the service starts."""
    try:
        module = module_of(value)
    except FactoryError as error:
        raise ValueError(str(error)) from None
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"needs the package {package!r}, which is not installed here")
    return value


BaseUrl = Annotated[str, AfterValidator(base_url_from)]
FactoryPath = Annotated[str, AfterValidator(_factory)]


class ProviderSettings(Section):
    """Where a deployment is, and what only its kind of provider knows."""

    provider: ProviderKind = "openai"
    """openai: everything that is compatible with it."""
    base_url: BaseUrl | None = None
    """Address before the operation. Unset: Anthropic's own; the other kinds over HTTP need one."""
    output_limit_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """Name of the request's limit. auto: the newer name for OpenAI itself, the older elsewhere."""
    stream_usage: bool = True
    """Ask for usage in streams; a few old servers refuse that."""
    continuous_usage: bool = False
    """Ask for usage in every chunk, which vLLM knows: a broken stream is counted exactly."""
    embedding_encoding: Literal["float", "base64"] = "float"
    """How vectors travel; base64 is a quarter of the bytes, and not every server knows it."""

    api_version: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9.-]*$")
    """azure: version for addresses by deployment. Unset: the newer addresses by model."""

    default_output_tokens: int = Field(default=8192, ge=1, le=1_000_000)
    """anthropic: limit of an answer when the request names none; its API wants one."""
    prompt_cache: Literal["off", "5m", "1h"] = "off"
    """anthropic: keep prefixes of 1 024 tokens and more. Writing one costs a quarter more."""
    thinking: Literal["auto", "adaptive", "budget", "off"] = "auto"
    """anthropic: how a reasoning effort is asked for. auto: as the model's version wants it."""
    structured_output: Literal["auto", "native", "tool"] = "auto"
    """anthropic: JSON by schema from the API itself or by a tool that the model must call."""

    factory: FactoryPath = ""
    """langchain: package.module:callable that makes the model. It runs in this process."""
    arguments: dict[str, Any] = Field(default={}, repr=False)
    """langchain: given to the factory by name."""
    arguments_env: dict[str, str] = Field(default={})
    """langchain: likewise, from the variables named here: what is secret stays out of files."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.provider == "langchain":
            self._check_factory()
        elif self.factory or self.arguments or self.arguments_env:
            raise ValueError("factory and arguments belong to provider langchain")
        elif self.base_url is None and self.provider != "anthropic":
            raise ValueError(f"base_url must be set for provider {self.provider}")
        if self.api_version and self.provider != "azure":
            raise ValueError("api_version belongs to provider azure")
        for field in ("prompt_cache", "thinking", "structured_output", "default_output_tokens"):
            if field in self.model_fields_set and self.provider != "anthropic":
                raise ValueError(f"{field} belongs to provider anthropic")
        return self

    def _check_factory(self) -> None:
        if not self.factory:
            raise ValueError("provider langchain needs factory (package.module:callable)")
        if self.base_url is not None:
            raise ValueError("provider langchain has no base_url; give it in arguments")
        for variable in self.arguments_env.values():
            if variable not in os.environ:
                raise ValueError(f"arguments_env names {variable}, which is not set")

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments, and those from variables."""
        secret = {name: os.environ[variable] for name, variable in self.arguments_env.items()}
        return self.arguments | secret
