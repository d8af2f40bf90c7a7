"""The goals of the fast path, against what one run measured: ratios within the same repeat.

Rows 1 to 8 of the table of goals; the first number of each is what has to hold at release.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import memory
from bench.measurement import ADDED, Measurement
from bench.targets import Target

GUARDED: Final = (1, 3, 5)
"""Goals that a change may not lose, against the raw relay of the same run."""
SCENARIOS: Final = ("ns1", "ns32", "ns128", "ttft1", "s100", "s500", "smax")
GUARD_SCENARIOS: Final = ("ns32", "ttft1", "s100")
_LATE_PERCENT: Final = 0.05
"""No stream late by 50 ms: a hiccup of a shared machine is no stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One bound: `metric` of `figure`, alone or divided by what `over` shows, in `unit`."""

    number: int
    what: str
    target: Target
    figure: str
    metric: str
    over: Target | None = None
    over_figure: str = ""
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def bound(self) -> str:
        """The bound in words."""
        sign, value = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {value:g}" + (f" x {self.over}" if self.over else f" {self.unit}")


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and what was measured: the median over the repeats. None: not measured."""

    goal: Goal
    measured: float | None
    compared: int
    """Repeats in it."""

    @property
    def is_met(self) -> bool | None:
        """Whether it holds; None when it was not measured."""
        if self.measured is None:
            return None
        if self.goal.least is not None:
            return self.measured >= self.goal.least
        return self.goal.most is not None and self.measured <= self.goal.most


_ONE, _SPLIT, _RELAY, _PEER = (
    Target.PLATFORM,
    Target.PLATFORM_SPLIT,
    Target.RELAY,
    Target.LITELLM,
)


def _goals() -> Sequence[Goal]:
    rate, cpu = "requests_per_second", "cpu_ms_per_request"
    first, first_p99 = ADDED + "first_token_p50_ms", ADDED + "first_token_p99_ms"
    tokens, cpu_tokens = "tokens_per_second", "cpu_ms_per_1000_tokens"
    late, pss = "late_token_percent", "pss_services_mib"
    goals: list[Goal] = []

    def add(
        number: int,
        what: str,
        figure: str,
        metric: str,
        *bounds: tuple[Target, Target | None, float],
    ) -> None:
        """Each of `bounds`: of whom, over whom (None: absolute), and how much."""
        upwards = metric in (rate, tokens)
        for target, over, value in bounds:
            goals.append(
                Goal(
                    number=number,
                    what=what,
                    target=target,
                    figure=figure,
                    metric=metric,
                    over=over,
                    # The peer falls behind at 100 streams: what it carries there it sustains.
                    over_figure="s100" if over is _PEER and figure == "s500" else figure,
                    least=value if upwards else None,
                    most=None if upwards else value,
                    unit="%" if metric == late else "MiB" if metric == pss else "ms",
                )
            )

    add(1, "requests/s, 32 connections", "ns32", rate, (_ONE, _RELAY, 0.2), (_ONE, _PEER, 15))
    add(1, "requests/s, 32 connections", "ns32", rate, (_SPLIT, _PEER, 5))
    add(2, "CPU a request", "ns32", cpu, (_ONE, None, 0.5), (_SPLIT, None, 1.0))
    add(3, "first token added, p50", "ttft1", first, (_ONE, _RELAY, 2), (_ONE, _PEER, 0.15))
    add(3, "first token added, p50", "ttft1", first, (_SPLIT, _RELAY, 5), (_SPLIT, _PEER, 0.35))
    add(4, "first token added, p99", "s100", first_p99, (_ONE, _RELAY, 2), (_SPLIT, _RELAY, 5))
    add(4, "first token added, p99", "s100", first_p99, (_SPLIT, _PEER, 0.01))
    add(5, "CPU of 1 000 tokens", "s100", cpu_tokens, (_ONE, _RELAY, 2), (_ONE, _PEER, 0.15))
    add(5, "CPU of 1 000 tokens", "s100", cpu_tokens, (_SPLIT, _RELAY, 6), (_SPLIT, _PEER, 0.45))
    add(6, "paced tokens/s, 500 streams", "s500", tokens, (_ONE, _PEER, 7), (_SPLIT, _PEER, 4))
    add(6, "… tokens late by 50 ms", "s500", late, (_ONE, None, _LATE_PERCENT))
    add(6, "… tokens late by 50 ms", "s500", late, (_SPLIT, None, _LATE_PERCENT))
    add(7, "unpaced tokens/s", "smax", tokens, (_ONE, _RELAY, 0.5), (_ONE, _PEER, 30))
    add(7, "unpaced tokens/s", "smax", tokens, (_SPLIT, _PEER, 15))
    for state, figure in (("idle", memory.IDLE), ("after the load", "smax")):
        what = f"memory of the services, {state}"
        add(8, what, figure, pss, (_ONE, _PEER, 0.35), (_ONE, None, 120), (_SPLIT, _PEER, 0.8))
    return goals


GOALS: Final = _goals()


def judged(
    measurements: Sequence[Measurement], numbers: Sequence[int] = (), over: Target | None = None
) -> list[Judged]:
    """Return the goals with what was measured; `numbers` and `over` choose among them."""
    values = {(one.figure, one.target, one.repeat): one.values for one in measurements}
    repeats = sorted({one.repeat for one in measurements})
    return [
        _judge(goal, values, repeats)
        for goal in GOALS
        if (not numbers or goal.number in numbers) and (over is None or goal.over is over)
    ]


def _judge(
    goal: Goal,
    values: Mapping[tuple[str, Target, int], Mapping[str, float]],
    repeats: Sequence[int],
) -> Judged:
    found: list[float] = []
    for repeat in repeats:
        value = values.get((goal.figure, goal.target, repeat), {}).get(goal.metric)
        if value is None:
            continue
        if goal.over is None:
            found.append(value)
            continue
        # Below nothing there is no ratio: a relay that added less than nothing was not measured.
        base = values.get((goal.over_figure, goal.over, repeat), {}).get(goal.metric, 0.0)
        if base > 0:
            found.append(value / base)
    return Judged(goal, statistics.median(found) if found else None, len(found))


def table(judgements: Sequence[Judged]) -> str:
    """Return the goals as a table for people."""
    lines = [
        "**goals**: the median of the ratios within one repeat; bounds are those of the release",
        "",
        "| # | what | of | goal | measured | met |",
        "|---|---|---|---|---|---|",
    ]
    for one in judgements:
        goal = one.goal
        measured = "-" if one.measured is None else f"{one.measured:,.3g}"
        met = {None: "-", True: "yes", False: "**no**"}[one.is_met]
        lines.append(
            f"| {goal.number} | {goal.what} | {goal.target} | {goal.bound} | {measured} | {met} |"
        )
    return "\n".join([*lines, ""])
