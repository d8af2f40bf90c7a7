"""How deployments do and how one is chosen: requests as domain values, domain values as answers."""

import re
from typing import Final

from google.protobuf.duration_pb2 import Duration

from meshwright.model_router.v1 import deployment_pb2 as pb
from meshwright.model_router.v1 import routing_service_pb2
from meshwright_common.errors import invalid
from meshwright_model_router.domain.catalogue import ABILITIES, PURPOSES
from meshwright_model_router.domain.choosing import Needs
from meshwright_model_router.domain.explaining import Explanation
from meshwright_model_router.domain.health_report import DeploymentState
from meshwright_model_router.domain.health_values import BreakerState
from meshwright_model_router.domain.usage import Operation

MAX_TOKENS: Final = 100_000_000
_SESSION: Final = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_STATES: Final = {
    BreakerState.CLOSED: pb.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: pb.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: pb.BREAKER_STATE_HALF_OPEN,
}


def needs_from(request: routing_service_pb2.ExplainRouteRequest) -> tuple[Operation, Needs]:
    """Return what the call is for and what it needs. Raises: InvalidArgument naming the field."""
    if not 0 <= request.prompt_tokens <= MAX_TOKENS:
        raise invalid("prompt_tokens", f"must be 0 to {MAX_TOKENS}")
    if not _SESSION.fullmatch(request.session_id):
        raise invalid("session_id", "must be 0 to 64 of A-Z a-z 0-9 _ . : -")
    named = set(request.capabilities)
    if unknown := sorted(named - {*ABILITIES, *PURPOSES}):
        known = ", ".join(sorted({*ABILITIES, *PURPOSES}))
        raise invalid("capabilities", f"has {', '.join(unknown)[:200]}; there are {known}")
    purposes = [PURPOSES[name] for name in sorted(named & PURPOSES.keys())]
    if len(purposes) > 1:
        raise invalid("capabilities", "names more than one purpose of a call")
    needs = Needs(
        frozenset(named - PURPOSES.keys()),
        prompt_tokens=request.prompt_tokens,
        session_id=request.session_id,
    )
    return (purposes or [Operation.GENERATE])[0], needs


def explanation_message(explained: Explanation) -> routing_service_pb2.ExplainRouteResponse:
    """Return an explanation as the wire shows it."""
    return routing_service_pb2.ExplainRouteResponse(
        deployment=explained.deployment,
        policy=explained.policy,
        candidates=[
            routing_service_pb2.RouteCandidate(
                deployment=one.deployment.name,
                eligible=one.eligible,
                exclusion=one.exclusion.value,
                score=one.score,
            )
            for one in explained.candidates
        ],
    )


def health_message(name: str, state: DeploymentState) -> pb.DeploymentHealth:
    """Return a deployment's health as the wire shows it."""
    numbers, failure = state.numbers, state.last_failure
    message = pb.DeploymentHealth(
        deployment=name,
        breaker_state=_STATES[state.breaker],
        requests_in_flight=numbers.in_flight,
        recent_requests=numbers.calls,
        error_rate=state.error_rate,
        first_token_p50=_duration(state.first_token_p50),
        first_token_p99=_duration(state.first_token_p99),
    )
    if state.retry_time is not None:
        message.retry_time.FromDatetime(state.retry_time)
    if failure is not None:
        message.last_failure_reason = failure.reason
        message.last_failure_time.FromDatetime(failure.time)
    return message


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
