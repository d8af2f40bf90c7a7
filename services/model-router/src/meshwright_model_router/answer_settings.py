"""Settings of stored answers and of guards: parts of `MESHWRIGHT_MODELS__…`."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from meshwright_common.settings import RedisSettings, Section


class AnswerCacheSettings(Section):
    """Stored answers, for callers who ask for them."""

    enabled: bool = True
    redis_url: str = Field(default="", repr=False)
    """A server for answers alone, which may evict. Unset: that of `redis.url`."""
    maximum_answer_bytes: int = Field(default=256 * 1024, ge=1024, le=4 * 1024 * 1024)
    maximum_questions: int = Field(default=1000, ge=1, le=10_000)
    """Of one scope (same rights, model, prompt but for the last text); the newest are kept."""

    def redis(self, shared: RedisSettings) -> RedisSettings:
        """Return where answers are; `shared` is where everything else is."""
        return shared.model_copy(update={"url": self.redis_url}) if self.redis_url else shared


class PythonGuardSettings(Section):
    """Code of the operator's own that judges texts: `function` is `package.module:name`.

    It is called with the text, the side ("input", "output") and the model's name, in a thread
    unless it is a coroutine function. It returns None when nothing is wrong, a category to act
    on, or a mapping of `action` ("allow", "block", "redact"), `category` and `text`.
    """

    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    timeout_seconds: float = Field(default=1, gt=0, le=30)
    fail_open: bool = False
    window_characters: int = Field(default=512, ge=64, le=4096)


class RegexGuardSettings(Section):
    """See `RegexGuard` in guard_service.proto, as are the others."""

    patterns: tuple[str, ...]
    longest_match: int = 0


class PiiGuardSettings(Section):
    """Personal data."""

    kinds: tuple[str, ...] = ()


class WordGuardSettings(Section):
    """Words and phrases."""

    phrases: tuple[str, ...]


class HttpGuardSettings(Section):
    """A judge over HTTP."""

    url: str
    timeout_milliseconds: int = 0
    fail_open: bool = False
    window_characters: int = 0


class GuardSettings(Section):
    """A guard of the operator's: it applies to all tenants. One kind is set."""

    name: str
    side: str = "both"
    action: str
    replacement: str = ""
    models: tuple[str, ...] = ()
    disabled: bool = False
    regex: RegexGuardSettings | None = None
    pii: PiiGuardSettings | None = None
    words: WordGuardSettings | None = None
    http: HttpGuardSettings | None = None
    python: str = ""

    @field_validator("side")
    @classmethod
    def _is_side(cls, side: str) -> str:
        if side not in {"both", "input", "output"}:
            raise ValueError("must be both, input or output")
        return side

    @field_validator("action")
    @classmethod
    def _is_action(cls, action: str) -> str:
        if action not in {"block", "redact", "report"}:
            raise ValueError("must be block, redact or report")
        return action

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        kinds = (self.regex, self.pii, self.words, self.http, self.python or None)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("exactly one of regex, pii, words, http and python must be set")
        return self
