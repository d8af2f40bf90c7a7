"""A span while it lasts: names, times and facts, in no library's words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from meshwright_common.errors import ServiceError
from meshwright_common.telemetry import trace_context

Attribute: TypeAlias = str | bool | int | float | Sequence[str]

MAX_ATTRIBUTES: Final = 64
NOTHING_MORE: Final[Mapping[str, Attribute]] = MappingProxyType({})
_NANOSECONDS: Final = 1e9


class Kind(IntEnum):
    """What a span is of, by OpenTelemetry's numbers."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Span:
    """Something that takes time, in a trace. `traceparent`: its own; `parent`: that of the span
    above, "" at the root.

    `error` is what kind of failure it ended with, "" when with none. Times are Unix nanoseconds.
    `sampled`: the decision of its trace; `kept`: it was given to the exporter. `shared`: facts that
    many spans have in common, in one mapping for all of them that nobody changes; most spans are
    not kept, and whoever notes each fact on each of them pays for all. `served`: the span of the
    call that an inner one is held with.
    """

    __slots__ = (
        "_answered_at",
        "_began_at",
        "_ended_at",
        "_finish",
        "attributes",
        "began_ns",
        "ended",
        "error",
        "held",
        "kept",
        "kind",
        "links",
        "name",
        "parent",
        "sampled",
        "served",
        "shared",
        "traceparent",
    )
    recording = True

    def __init__(
        self,
        name: str,
        kind: Kind,
        traceparent: str,
        parent: str,
        *,
        sampled: bool,
        finish: Callable[[Span], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.traceparent = traceparent
        self.parent = parent
        self.sampled = sampled
        self.served: Span | None = None
        self.shared = NOTHING_MORE
        self.attributes: dict[str, Attribute] = {}
        self.links: tuple[str, ...] = ()
        self.held: list[Span] = []
        self.error = ""
        self.ended = self.kept = False
        # house: wall-clock: spans of different processes are laid side by side
        self.began_ns = time.time_ns()
        self._began_at = time.perf_counter()
        self._answered_at = self._ended_at = 0.0
        self._finish = finish

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, 32 characters."""
        return trace_context.trace_id(self.traceparent)

    @property
    def answered_seconds(self) -> float:
        """How long it took to its first answer, or to its end when it gave none before. Asked
        after its end.
        """
        return (self._answered_at or self._ended_at) - self._began_at

    @property
    def ended_ns(self) -> int:
        """When it ended. The wall clock is read once, at its beginning: it may be set meanwhile."""
        return self.began_ns + round((self._ended_at - self._began_at) * _NANOSECONDS)

    @property
    def exemplar(self) -> dict[str, str] | None:
        """What a metric says of the trace when the span was kept."""
        return {"trace_id": self.trace_id} if self.kept else None

    @property
    def failed_inside(self) -> bool:
        """Whether something failed that was done for it, as far as it is known before its end."""
        return any(one.error for one in self.held)

    def answered(self) -> None:
        """The first answer leaves: what comes after it takes as long as there is to tell."""
        if not self._answered_at:
            self._answered_at = time.perf_counter()

    def set(self, name: str, value: Attribute) -> None:
        """Note a fact."""
        if len(self.attributes) < MAX_ATTRIBUTES:
            self.attributes[name] = value

    def fail(self, kind: str) -> None:
        """It failed, by an error of this kind: a reason or the name of a class, never a text."""
        self.error = kind

    def failed_by(self, error: BaseException) -> None:
        """It failed by `error`, unless that is a caller who left."""
        if isinstance(error, Exception):
            self.fail(error.reason if isinstance(error, ServiceError) else type(error).__name__)

    def drop(self) -> None:
        """It is over, and nobody wants to know."""
        self.ended = True

    def end(self) -> None:
        """It is over. A second end says nothing."""
        if self.ended:
            return
        self.ended = True
        self._ended_at = time.perf_counter()
        self._finish(self)

    def lasts_since(self, began_ns: int) -> None:
        """It began at `began_ns` (Unix time), before it was made."""
        self._began_at -= max(self.began_ns - began_ns, 0) / _NANOSECONDS
        self.began_ns = began_ns


class NotRecorded(Span):
    """No span is made: everything said to it is forgotten. `traceparent`: what those below get."""

    __slots__ = ()
    recording = False

    def __init__(self, traceparent: str) -> None:
        # Nothing else of a span is ever asked of it: this is made for each call.
        self.traceparent = traceparent

    @property
    def exemplar(self) -> dict[str, str] | None:
        return None

    def answered(self) -> None:
        pass

    def set(self, name: str, value: Attribute) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass

    def drop(self) -> None:
        pass

    def end(self) -> None:
        pass


NO_SPAN: Final[Span] = NotRecorded("")
"""Where nothing is recorded, and nothing is known of a trace."""
