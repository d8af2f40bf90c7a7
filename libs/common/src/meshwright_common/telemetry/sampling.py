"""Which traces are kept: a share of all, decided where a trace begins, and what failed or was slow.

The share is decided once, by whoever begins the trace, and travels in the sampled flag. What is
not sampled costs two ids and a clock. When such a call turns out to have failed or to be slow, the
process that served it makes its spans afterwards, with the ids that it had told its callees before
(`tracing.Span`). An error and a delay travel upwards, so each process on their way keeps its own
spans without asking another: together they are one trace of the failing path. What ended well
beside that path is missing; only a collector that sees everything can keep it (docs/telemetry.md).
"""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sampling:
    """`ratio` of new traces are recorded whole. Of the others, calls that failed (`keep_failed`),
    and those whose first answer took `slow_seconds` or longer (0: none).
    """

    ratio: float = 1.0
    keep_failed: bool = True
    slow_seconds: float = 0.0

    looks_back: bool = field(init=False)
    """Whether a call that is not sampled may be kept at its end."""

    def __post_init__(self) -> None:
        # Asked for each call, so it is no property.
        looks_back = self.ratio < 1 and (self.keep_failed or self.slow_seconds > 0)
        object.__setattr__(self, "looks_back", looks_back)

    def chooses(self) -> bool:
        """Decide on one new trace."""
        return self.ratio >= 1 or random.random() < self.ratio  # noqa: S311 - no secret

    def keeps(self, *, failed: bool, seconds: float) -> bool:
        """Return whether a call that was not sampled is kept after all."""
        return (failed and self.keep_failed) or (0 < self.slow_seconds <= seconds)
