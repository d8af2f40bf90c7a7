"""What the providers reached over HTTP are configured with."""

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote

OutputLimitField = Literal["max_tokens", "max_completion_tokens"]
PromptCache = Literal["off", "5m", "1h"]
Thinking = Literal["auto", "adaptive", "budget", "off"]
StructuredOutput = Literal["auto", "native", "tool"]
EmbeddingEncoding = Literal["float", "base64"]
BEARER: Final = "authorization"
"""The header that carries a key after the word Bearer; any other carries the key alone."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one request to a provider, in seconds."""

    connect: float = 3.0
    first_byte: float = 30.0
    """From sending the request to the first byte of the answer's body."""
    idle: float = 30.0
    """Longest silence within an answer."""
    total: float = 300.0


@dataclass(frozen=True, slots=True)
class AnthropicOptions:
    """What only Anthropic's Messages API knows. "auto" decides by the model's version."""

    output_tokens: int = 8192
    """Limit of an answer when the caller names none: the API wants one in every request."""
    prompt_cache: PromptCache = "off"
    """How long the provider keeps a long prefix of the prompt; writing it costs extra."""
    thinking: Thinking = "auto"
    """How a reasoning effort is asked for: adaptively, or as a budget of tokens."""
    structured_output: StructuredOutput = "auto"
    """JSON by schema: the API's own, or by the arguments of a tool that the model must call."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's address and how to talk to it.

    `base_url` ends without a slash. `…_setting` name what an operator has to mend, in errors.
    """

    deployment: str
    base_url: str
    api_key: str = field(default="", repr=False)
    base_url_setting: str = "base_url"
    api_key_setting: str = "api_key"
    timeouts: Timeouts = Timeouts()
    output_limit_field: OutputLimitField = "max_tokens"
    stream_usage: bool = True
    """Ask for usage in streams; a few old servers refuse the field."""
    key_header: str = BEARER
    """Header of the key: `x-api-key` for Anthropic, `api-key` for Azure."""
    public_only: bool = False
    """Connect to public addresses alone: a tenant may have named the host."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request beside the key, e.g. `anthropic-version`; names in lower case."""
    api_version: str = ""
    """Azure's: a date is for addresses by deployment (`…/deployments/NAME/…?api-version=`)."""
    continuous_usage: bool = False
    """Ask for usage in every chunk, which vLLM knows: a broken stream is counted exactly."""
    embedding_encoding: EmbeddingEncoding = "float"
    """How vectors are asked for; base64 is a quarter of the bytes, and not known everywhere."""
    anthropic: AnthropicOptions = AnthropicOptions()

    @property
    def request_headers(self) -> dict[str, str]:
        """The key's header, if there is a key, and `headers`."""
        sent = dict(self.headers)
        if self.api_key:
            bearer = self.key_header == BEARER
            sent[self.key_header] = f"Bearer {self.api_key}" if bearer else self.api_key
        return sent

    def path_of(self, operation: str, model: str) -> str:
        """Return where an operation on a model is, below `base_url`."""
        if not self.api_version:
            return operation
        version = f"?api-version={quote(self.api_version, safe='')}"
        if not self.by_deployment:
            return operation + version
        return f"deployments/{quote(model, safe='')}/{operation}{version}"

    @property
    def by_deployment(self) -> bool:
        """Azure's older addresses: their versions are dates, those of the newer are words."""
        return self.api_version[:1].isdigit()
