"""Bodies of guards and of what they find."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Input, Listing, Output

Side = Literal["both", "input", "output"]
Action = Literal["block", "redact", "report"]
Text512 = Annotated[str, Field(min_length=1, max_length=512)]
Text128 = Annotated[str, Field(min_length=1, max_length=128)]


class RegexInput(Input):
    """Regular expressions in RE2's syntax."""

    patterns: list[Text512] = Field(min_length=1, max_length=64)
    longest_match: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Characters of the longest match, which a stream is held for. 0: 128.",
    )


class PiiInput(Input):
    """Personal data."""

    kinds: list[Annotated[str, Field(max_length=16)]] = Field(
        default=[],
        max_length=16,
        description="`email`, `phone`, `card`, `iban`, `ip`, `ssn`, `cn_id`, `secret`. Empty: all.",
    )


class WordsInput(Input):
    """Words and phrases, without regard to case."""

    phrases: list[Text128] = Field(min_length=1, max_length=1000)


class HttpInput(Input):
    """A service that judges."""

    url: str = Field(
        min_length=1, max_length=2048, description="Its host must be one that the operator allows."
    )
    timeout_milliseconds: int = Field(default=0, ge=0, le=5000, description="0: 1000.")
    fail_open: bool = Field(default=False, description="Without an answer the text passes.")
    window_characters: int = Field(
        default=0, ge=0, le=4096, description="Of output, judged at once. 0: 512."
    )


class GuardSet(Input):
    """A guard, whole; exactly one of `regex`, `pii`, `words` and `http`."""

    side: Side = "both"
    action: Action
    replacement: str = Field(
        default="", max_length=64, description="For `redact`. Empty: the category in brackets."
    )
    models: list[Text128] = Field(
        default=[], max_length=64, description="Names, `*` for any part. Empty: all."
    )
    disabled: bool = False
    regex: RegexInput | None = None
    pii: PiiInput | None = None
    words: WordsInput | None = None
    http: HttpInput | None = None
    etag: str = Field(
        default="", max_length=64, description="Refused when somebody changed it since."
    )


class Regex(Output):
    """Regular expressions."""

    patterns: list[str]
    longest_match: int


class Pii(Output):
    """Personal data. No kinds: all."""

    kinds: list[str]


class Words(Output):
    """Words and phrases."""

    phrases: list[str]


class Http(Output):
    """A service that judges."""

    url: str
    timeout_milliseconds: int
    fail_open: bool
    window_characters: int


class Guard(Output):
    """A guard."""

    name: str
    side: Side
    action: Action
    replacement: str
    models: list[str]
    disabled: bool
    operator_owned: bool = Field(description="From the operator's configuration, for all tenants.")
    regex: Regex | None = None
    pii: Pii | None = None
    words: Words | None = None
    http: Http | None = None
    python: str | None = Field(default=None, description="Code of the operator's, by name.")
    etag: str
    update_time: datetime | None


class GuardList(Listing):
    """Guards by name, the operator's included."""

    guards: list[Guard]


class TextCheck(Input):
    """A text to try the guards in force on."""

    text: str = Field(max_length=65_536)
    side: Literal["input", "output"] = "input"
    model: str = Field(default="", max_length=128, description="Empty: the default model.")


class Finding(Output):
    """Something that a guard found; the text is not quoted."""

    guard: str
    category: str
    side: str
    action: str
    count: int


class CheckedText(Output):
    """What guards would do with a text."""

    blocked: bool
    text: str = Field(description="As it would go on. Empty when blocked.")
    findings: list[Finding]
