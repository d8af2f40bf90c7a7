"""What the providers reached over HTTP are configured with."""

from dataclasses import dataclass, field
from typing import Final, Literal

OutputLimitField = Literal["max_tokens", "max_completion_tokens"]
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
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request beside the key, e.g. `anthropic-version`; names in lower case."""

    @property
    def request_headers(self) -> dict[str, str]:
        """The key's header, if there is a key, and `headers`."""
        sent = dict(self.headers)
        if self.api_key:
            bearer = self.key_header == BEARER
            sent[self.key_header] = f"Bearer {self.api_key}" if bearer else self.api_key
        return sent
