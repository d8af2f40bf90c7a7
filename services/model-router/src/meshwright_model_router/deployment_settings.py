"""Settings that every deployment has, wherever it is configured."""

import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from meshwright_common.settings import Section
from meshwright_model_router.domain.pricing import BEGINNING, PriceHistory, PricePeriod, Prices
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.provider_settings import Capability, ProviderSettings

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_PURPOSES_OF: Final = {
    "openai": frozenset(Operation),
    "azure": frozenset({Operation.GENERATE, Operation.EMBED}),
    "anthropic": frozenset({Operation.GENERATE}),
    "langchain": frozenset({Operation.GENERATE, Operation.EMBED}),
}


def model_pattern(value: str) -> str:
    """Return the name of a model, or a pattern of names. Raises: ValueError."""
    stem = value[:-1] if value.endswith("*") else value
    if not _MODEL_NAME.fullmatch(stem):
        raise ValueError(
            "must be 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, optionally with one * at the end"
        )
    return value


ModelPattern = Annotated[str, AfterValidator(model_pattern)]


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
    since: AwareDatetime = BEGINNING
    """Calls that begin from this time on, until the next price. Unset: always."""

    def period(self) -> PricePeriod:
        """Return the prices with their time."""
        prices = Prices(self.input_micro_usd, self.output_micro_usd, self.cached_micro_usd)
        return PricePeriod(self.since, prices)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | PriceSettings) else value


class ServedSettings(ProviderSettings):
    """What a deployment is for, what it can, what it costs."""

    context_window: int = Field(default=0, ge=0)
    """Tokens of input and output together; 0: unknown."""
    capabilities: tuple[Capability, ...] = ()
    """What it is for (generate, embed, rerank, moderate) and what it can do then (tools, vision,
    json_schema, reasoning). Unset: embed with embedding_dimensions, else generate, and what its
    kind of provider usually can."""
    prices: Annotated[tuple[PriceSettings, ...], BeforeValidator(_listed)] = ()
    """One price, or several with the times they begin at. Unset: those of the shipped list for
    models of OpenAI and Anthropic at their own addresses, else nothing."""
    embedding_dimensions: int = Field(default=0, ge=0, le=16_384)
    """Length of its vectors. Not 0 makes this an embedding model, which does not generate."""
    timeouts: TimeoutSettings | None = None
    """Unset: those of the section."""

    @model_validator(mode="after")
    def _check_purposes(self) -> Self:
        purposes = self.operations
        if (Operation.EMBED in purposes) != bool(self.embedding_dimensions):
            raise ValueError("embedding_dimensions belong to what embeds, and only to that")
        for purpose in purposes:
            if purpose not in _PURPOSES_OF[self.provider]:
                raise ValueError(f"provider {self.provider} cannot {purpose}")
        times = [one.since for one in self.prices]
        if len(set(times)) != len(times):
            raise ValueError("two prices begin at the same time")
        return self

    @property
    def operations(self) -> frozenset[Operation]:
        """What it is for."""
        named = frozenset(one for one in Operation if one.value in self.capabilities)
        if named:
            return named
        return frozenset({Operation.EMBED if self.embedding_dimensions else Operation.GENERATE})

    @property
    def price_history(self) -> PriceHistory:
        """The prices that are configured; none: nobody said."""
        return PriceHistory.ordered(one.period() for one in self.prices)
