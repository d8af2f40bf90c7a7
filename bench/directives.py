"""How a request tells the simulated provider what to answer.

A directive is one word such as `sim-ttft20-tps50-n200`. It may be the model's name or stand
anywhere in the last user message, so it passes through any gateway. Parts, in any order:

    n16         tokens in the answer               ttft20      first token after 20 ms
    tps50       tokens per second, 0 unpaced       burst5      five tokens per write
    err429      answer this HTTP status            retryafter3 with `Retry-After: 3`
    hang        never answer                       refuse      close without an answer
    truncate5   FIN after 5 tokens                 reset5      RST after 5 tokens
    stall5      silence after 5 tokens             fault5      an error event after 5 tokens
    nodone5     a proper end without [DONE]        fails2      only the first 2 such requests fail
    sse:NAME    a damaged stream, see malformed.py usage:NAME  normal missing negative absurd text
    tool:NAME   ask for this tool first            args:HEX    its arguments, hexadecimal UTF-8
    calls3      three calls at once                loop        ask for the tool for ever
    say:HEX     this text instead of tokens        dim256      dimensions of an embedding
    think3      three pieces of reasoning first    cached9     tokens read from the prompt's cache
    stop:NAME   this finish reason, as it is
    id:NAME     makes a directive unique, so that `fails` counts apart
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

DEFAULT_TOKENS = 16
DEFAULT_DIMENSIONS = 256

_DIRECTIVE = re.compile(r"\bsim(?:-[a-z]+(?::[A-Za-z0-9_.]*|[0-9]+(?:\.[0-9]+)?)?)+")
_PART = re.compile(r"([a-z]+)(?::([A-Za-z0-9_.]*)|([0-9]+(?:\.[0-9]+)?))?")


class DirectiveError(ValueError):
    """The directive has a part that the simulator does not know."""


class Cut(StrEnum):
    """What goes wrong with the connection, and where the word stands in a directive."""

    TRUNCATE = "truncate"
    RESET = "reset"
    STALL = "stall"
    FAULT = "fault"
    NODONE = "nodone"
    HANG = "hang"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPlan:
    """What the simulated provider does with one request. The defaults are a healthy answer."""

    tokens: int = DEFAULT_TOKENS
    first_token_ms: float = 0.0
    tokens_per_second: float = 0.0
    """0 sends as fast as the reader takes it."""
    burst: int = 1
    status: int = 200
    retry_after_seconds: float | None = None
    failures: int | None = None
    """How many requests with this directive fail before one succeeds; None: all of them."""
    cut: Cut | None = None
    cut_after: int = 0
    dialect: str = ""
    usage: str = "normal"
    tool: str = ""
    arguments: str = "{}"
    calls: int = 1
    endless_tools: bool = False
    text: str = ""
    """Text to say, streamed word by word, instead of time-stamped tokens."""
    dimensions: int = DEFAULT_DIMENSIONS
    thinking: int = 0
    """Pieces of reasoning before the answer."""
    cached: int = 0
    stop: str = ""
    label: str = ""

    @property
    def faulty(self) -> bool:
        """True when the reply is anything but a healthy answer on a healthy connection."""
        return self.status != 200 or self.cut is not None or bool(self.dialect)

    def healthy(self) -> "ReplyPlan":
        """Return the same plan without its faults."""
        return replace(self, status=200, retry_after_seconds=None, cut=None, dialect="")

    def directive(self) -> str:
        """Return the text that `parse` reads back into this plan."""
        defaults = ReplyPlan()
        parts = [
            f"{word}{_shown(word, getattr(self, name))}"
            for word, name in _FIELDS.items()
            if getattr(self, name) != getattr(defaults, name)
        ]
        if self.cut is not None:
            parts.append(f"{self.cut}{self.cut_after or ''}")
        if self.endless_tools:
            parts.append("loop")
        return "-".join(["sim", *parts])


_FIELDS: Mapping[str, str] = {
    "n": "tokens",
    "ttft": "first_token_ms",
    "tps": "tokens_per_second",
    "burst": "burst",
    "err": "status",
    "retryafter": "retry_after_seconds",
    "fails": "failures",
    "sse": "dialect",
    "usage": "usage",
    "tool": "tool",
    "args": "arguments",
    "calls": "calls",
    "say": "text",
    "dim": "dimensions",
    "think": "thinking",
    "cached": "cached",
    "stop": "stop",
    "id": "label",
}
_CUTS = frozenset(cut.value for cut in Cut)
_HEXADECIMAL = frozenset({"args", "say"})
_WHOLE_NUMBERS = frozenset({"n", "burst", "err", "fails", "calls", "dim", "think", "cached"})
_NUMBERS = frozenset({"ttft", "tps", "retryafter"})


def _shown(word: str, value: object) -> str:
    if word in _HEXADECIMAL:
        return ":" + str(value).encode().hex()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if word in _WHOLE_NUMBERS else f":{value}"


def _value(word: str, text: str) -> str | int | float:
    convert: Callable[[str], str | int | float] = str
    if word in _HEXADECIMAL:
        return bytes.fromhex(text).decode()
    if word in _WHOLE_NUMBERS:
        convert = int
    elif word in _NUMBERS:
        convert = float
    return convert(text)


@lru_cache(maxsize=1024)
def parse(directive: str) -> ReplyPlan:
    """Read a directive; a name that is no directive (not `sim-…`) is the default plan.

    Raises: DirectiveError naming the part that is unknown or has a bad value.
    """
    if not directive.startswith("sim-"):
        return ReplyPlan()
    values: dict[str, object] = {}
    for part in directive.removeprefix("sim-").split("-"):
        match = _PART.fullmatch(part)
        if match is None:
            raise DirectiveError(f"unreadable part {part!r} in {directive!r}")
        word, text = match[1], match[2] or match[3] or ""
        if word in _CUTS:
            values["cut"] = Cut(word)
            values["cut_after"] = int(text or 0)
        elif word == "loop":
            values["endless_tools"] = True
        elif word in _FIELDS:
            try:
                values[_FIELDS[word]] = _value(word, text)
            except ValueError as error:
                raise DirectiveError(f"bad value in part {part!r}: {error}") from error
        else:
            raise DirectiveError(f"unknown part {part!r} in {directive!r}")
    return ReplyPlan(**values)  # type: ignore[arg-type]  # names and types come from _FIELDS


def find(text: str) -> str | None:
    """Return the last directive that stands in a text, or None."""
    if "sim-" not in text:
        return None
    found = _DIRECTIVE.findall(text)
    return found[-1] if found else None
