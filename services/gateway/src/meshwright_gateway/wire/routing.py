"""Deployments, policies, prices and health: messages to JSON bodies, and back."""

from google.protobuf import duration_pb2, field_mask_pb2

from meshwright.model_router.v1 import deployment_pb2 as pb
from meshwright.model_router.v1 import routing_service_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import routing as schemas
from meshwright_gateway.wire import values


def deployment_message(body: schemas.DeploymentCreate) -> pb.Deployment:
    """Return the deployment to create."""
    given = body.model_dump(exclude={"limits"})
    return pb.Deployment(limits=pb.DeploymentLimits(**body.limits.model_dump()), **given)


def update_request(
    name: str, body: schemas.DeploymentChange
) -> routing_service_pb2.UpdateDeploymentRequest:
    """Return the request that changes what a body names. Raises: InvalidArgument for nothing."""
    given = body.model_dump(exclude_none=True, exclude={"etag"})
    if not given:
        fields = (one for one in schemas.DeploymentChange.model_fields if one != "etag")
        raise misshapen("body", f"must have one of {', '.join(fields)}")
    mask = field_mask_pb2.FieldMask(paths=sorted(given))
    if "limits" in given:
        given["limits"] = pb.DeploymentLimits(**given["limits"])
    return routing_service_pb2.UpdateDeploymentRequest(
        deployment=pb.Deployment(name=name, etag=body.etag or "", **given), update_mask=mask
    )


def deployment_view(message: pb.Deployment) -> schemas.Deployment:
    """Return a deployment as JSON shows it."""
    limits = message.limits
    return schemas.Deployment(
        name=message.name,
        model=message.model,
        provider=message.provider,
        provider_model=message.provider_model,
        base_url=message.base_url,
        credential_name=message.credential_name,
        operator_owned=message.operator_owned,
        disabled=message.disabled,
        priority=message.priority,
        weight=message.weight,
        limits=schemas.DeploymentLimits(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
        ),
        context_window=message.context_window,
        capabilities=list(message.capabilities),
        embedding_dimensions=message.embedding_dimensions,
        etag=message.etag,
        create_time=values.time_from(message.create_time),
        update_time=values.time_from(message.update_time),
    )


def policy_message(name: str, body: schemas.PolicySet) -> pb.RoutingPolicy:
    """Return the policy to store."""
    rest = body.cool_down
    return pb.RoutingPolicy(
        name=name,
        models=body.models,
        strategy=pb.RoutingStrategy.Value(f"ROUTING_STRATEGY_{body.strategy.upper()}"),
        sticky_by_session=body.sticky_by_session,
        fallback_models=body.fallback_models,
        max_attempts=body.max_attempts,
        hedge_after=_duration(body.hedge_after_seconds),
        cool_down=pb.CoolDown(
            consecutive_failures=rest.consecutive_failures,
            error_rate=rest.error_rate,
            duration=_duration(rest.seconds),
        ),
        etag=body.etag or "",
    )


def policy_view(message: pb.RoutingPolicy) -> schemas.Policy:
    """Return a policy as JSON shows it."""
    rest = message.cool_down
    return schemas.Policy(
        name=message.name,
        models=list(message.models),
        strategy=values.enum_name(pb.RoutingStrategy, message.strategy, "ROUTING_STRATEGY_"),
        sticky_by_session=message.sticky_by_session,
        fallback_models=list(message.fallback_models),
        max_attempts=message.max_attempts,
        hedge_after_seconds=(
            _seconds(message.hedge_after) if message.HasField("hedge_after") else None
        ),
        cool_down=schemas.CoolDown(
            consecutive_failures=rest.consecutive_failures,
            error_rate=rest.error_rate,
            seconds=_seconds(rest.duration),
        ),
        etag=message.etag,
        update_time=values.time_from(message.update_time),
    )


def price_message(body: schemas.PriceSet) -> pb.Price:
    """Return the price to store."""
    given = body.model_dump(exclude={"effective_time"})
    return pb.Price(effective_time=values.timestamp_of(body.effective_time), **given)


def price_view(message: pb.Price) -> schemas.Price:
    """Return a price as JSON shows it."""
    return schemas.Price(
        deployment=message.deployment,
        prompt_million_tokens_micro_usd=message.prompt_million_tokens_micro_usd,
        cached_million_tokens_micro_usd=message.cached_million_tokens_micro_usd,
        completion_million_tokens_micro_usd=message.completion_million_tokens_micro_usd,
        effective_time=values.time_from(message.effective_time),
        builtin=message.builtin,
    )


def health_view(message: pb.DeploymentHealth) -> schemas.DeploymentHealth:
    """Return how a deployment does as JSON shows it."""
    p50, p99 = (
        _seconds(getattr(message, name)) if message.HasField(name) else None
        for name in ("first_token_p50", "first_token_p99")
    )
    return schemas.DeploymentHealth(
        deployment=message.deployment,
        breaker_state=values.enum_name(pb.BreakerState, message.breaker_state, "BREAKER_STATE_"),
        retry_time=values.time_from(message.retry_time),
        requests_in_flight=message.requests_in_flight,
        recent_requests=message.recent_requests,
        error_rate=message.error_rate,
        first_token_p50_seconds=p50,
        first_token_p99_seconds=p99,
        last_failure_reason=message.last_failure_reason,
        last_failure_time=values.time_from(message.last_failure_time),
    )


def explanation_view(
    answer: routing_service_pb2.ExplainRouteResponse,
) -> schemas.RouteExplanation:
    """Return which deployment a call would get as JSON shows it."""
    return schemas.RouteExplanation(
        deployment=answer.deployment,
        policy=answer.policy,
        candidates=[
            schemas.RouteCandidate(
                deployment=one.deployment,
                eligible=one.eligible,
                exclusion=one.exclusion,
                score=one.score,
            )
            for one in answer.candidates
        ],
    )


def _duration(seconds: float | None) -> duration_pb2.Duration | None:
    if seconds is None:
        return None
    duration = duration_pb2.Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.ToMicroseconds() / 1_000_000
