"""The traffic scenarios: what is asked, how hard, for how long."""

from dataclasses import dataclass, replace
from enum import StrEnum

from bench.directives import ReplyPlan
from bench.load import Ask, Kind, Load
from bench.targets import Target

S500_STREAMS = 500
WARM_UP_TOKENS = 16


class Focus(StrEnum):
    """Which figures of a scenario are worth a column."""

    REQUESTS = "requests"
    FIRST_TOKEN = "first token"  # noqa: S105 - no password
    PACED = "paced stream"
    UNPACED = "unpaced stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of traffic. `turn` asks the platform by POST /api/v1/chat, others as OpenAI do."""

    name: str
    about: str
    focus: Focus
    kind: Kind
    plan: ReplyPlan
    load: Load
    turn: bool = False
    beyond: frozenset[Target] = frozenset()
    """Targets that cannot carry it at all: they would only fill the time."""

    def ask(self, target: Target, api_key: str) -> Ask:
        """Return the request for a target."""
        return self._ask(self.plan, target, api_key)

    def warm_up_ask(self, target: Target, api_key: str) -> Ask:
        """Return the request of the warm-up: a short answer does."""
        tokens = min(self.plan.tokens, WARM_UP_TOKENS)
        return self._ask(replace(self.plan, tokens=tokens), target, api_key)

    def _ask(self, plan: ReplyPlan, target: Target, api_key: str) -> Ask:
        return Ask(
            kind=Kind.TURN_STREAM if self.turn and target.is_platform else self.kind,
            prompt=plan.directive(),
            expected_tokens=plan.tokens,
            api_key=api_key,
        )

    def warm_up(self) -> Load:
        """Return a short load that opens connections and fills caches before the measurement."""
        return replace(self.load, seconds=0.3, max_requests=self.load.connections, ramp_seconds=0.0)


_SHORT = ReplyPlan(tokens=32)
_ONE_STREAM = ReplyPlan(first_token_ms=20, tokens_per_second=200, tokens=20)


def _requests(name: str, connections: int, *, quick: bool) -> Scenario:
    return Scenario(
        name=name,
        about=f"not streamed, 32-token answer, {connections} connections",
        focus=Focus.REQUESTS,
        kind=Kind.COMPLETION,
        plan=_SHORT,
        load=Load(connections=connections, seconds=1.0 if quick else 4.0),
    )


def _paced(name: str, streams: int, *, quick: bool) -> Scenario:
    tokens, answers = (50, 1) if quick else (200, 2)
    return Scenario(
        name=name,
        about=f"{streams} streams, {tokens} tokens each at 50 tokens/s",
        focus=Focus.PACED,
        kind=Kind.COMPLETION_STREAM,
        plan=ReplyPlan(first_token_ms=20, tokens_per_second=50, tokens=tokens),
        # Started over one second: streams in step with each other would be a burst, not a pace.
        load=Load(
            connections=streams,
            seconds=30.0,
            max_requests=answers * streams,
            ramp_seconds=1.0,
            drain_seconds=30.0,
        ),
    )


def traffic(*, quick: bool, scale: float) -> list[Scenario]:
    """Return all traffic scenarios; `scale` shrinks the number of streams of s500."""
    seconds = 1.0 if quick else 4.0
    streams = max(1, round(S500_STREAMS * scale))
    one_stream = Scenario(
        name="ttft1",
        about="one stream, first token after 20 ms, then 200 tokens/s",
        focus=Focus.FIRST_TOKEN,
        kind=Kind.COMPLETION_STREAM,
        plan=_ONE_STREAM,
        load=Load(connections=1, seconds=seconds),
    )
    unpaced = Scenario(
        name="smax",
        about="32 unpaced streams of 400 tokens, two tokens per write",
        focus=Focus.UNPACED,
        kind=Kind.COMPLETION_STREAM,
        plan=ReplyPlan(tokens=400, burst=2),
        load=Load(connections=32, seconds=seconds, drain_seconds=30.0),
    )
    turns = replace(
        one_stream,
        name="turns32",
        about="32-token turns of the chat agent, streamed, 32 connections",
        focus=Focus.REQUESTS,
        # In one write, so that the simulator is not what is measured.
        plan=replace(_SHORT, burst=32),
        load=Load(connections=32, seconds=seconds),
        turn=True,
    )
    return [
        _requests("ns1", 1, quick=quick),
        _requests("ns32", 32, quick=quick),
        _requests("ns128", 128, quick=quick),
        one_stream,
        _paced("s100", 100, quick=quick),
        replace(_paced("s500", streams, quick=quick), beyond=frozenset({Target.LITELLM})),
        unpaced,
        replace(one_stream, name="turn1", about="one turn at a time of the chat agent", turn=True),
        turns,
    ]
