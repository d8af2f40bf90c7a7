"""Bodies of deployments, policies, prices, health and explanations."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Input, Listing, Moment, Output

Strategy = Literal["priority", "weighted", "least_busy", "lowest_latency", "lowest_cost"]
DeploymentName = Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=128)]
Amount = Annotated[int, Field(ge=0, le=2**53, description="Millionths of a US dollar.")]
Capabilities = Annotated[
    list[Annotated[str, Field(max_length=32)]],
    Field(
        max_length=16,
        description="What it is for (`generate`, `embed`, `rerank`, `moderate`) and what it can do "
        "(`tools`, `vision`, `json_schema`, `reasoning`). Empty: what its kind of provider can.",
    ),
]


class DeploymentLimitsInput(Input):
    """What a deployment can carry, all replicas together. 0: unlimited."""

    requests_per_minute: int = Field(default=0, ge=0, lt=2**31)
    tokens_per_minute: int = Field(default=0, ge=0, le=2**53)
    concurrent_requests: int = Field(default=0, ge=0, lt=2**31)


class DeploymentCreate(Input):
    """A deployment to create."""

    name: DeploymentName
    model: ModelName = Field(description="What clients ask for; a `*` at its end: every such name.")
    provider: str = Field(
        min_length=1, max_length=32, description="`openai`, `azure` or `anthropic`."
    )
    provider_model: str = Field(
        default="", max_length=256, description="What the provider is asked for. Empty: the model."
    )
    base_url: str = Field(
        default="",
        max_length=512,
        description="Its host must be one that the operator allows. Empty: the provider's own.",
    )
    credential_name: str = Field(
        default="", max_length=64, description="A credential of the operator. Empty: none is sent."
    )
    disabled: bool = False
    priority: int = Field(default=0, ge=0, le=100, description="Lower is tried first. 0: 50.")
    weight: int = Field(default=0, ge=0, le=1000, description="Share of calls. 0: 100.")
    limits: DeploymentLimitsInput = DeploymentLimitsInput()
    context_window: int = Field(default=0, ge=0, lt=2**31, description="0: unknown.")
    capabilities: Capabilities = Field(default=[])
    embedding_dimensions: int = Field(default=0, ge=0, le=16_384)


class DeploymentChange(Input):
    """Fields to change; absent ones stay."""

    model: ModelName | None = None
    provider_model: str | None = Field(default=None, max_length=256)
    base_url: str | None = Field(default=None, max_length=512)
    credential_name: str | None = Field(default=None, max_length=64)
    disabled: bool | None = None
    priority: int | None = Field(default=None, ge=0, le=100)
    weight: int | None = Field(default=None, ge=0, le=1000)
    limits: DeploymentLimitsInput | None = None
    context_window: int | None = Field(default=None, ge=0, lt=2**31)
    capabilities: Capabilities | None = None
    embedding_dimensions: int | None = Field(default=None, ge=0, le=16_384)
    etag: str | None = Field(
        default=None, max_length=64, description="Refused when somebody changed it since."
    )


class DeploymentLimits(Output):
    """What a deployment can carry. 0: unlimited."""

    requests_per_minute: int
    tokens_per_minute: int
    concurrent_requests: int


class Deployment(Output):
    """One place where a model can be called."""

    name: str
    model: str
    provider: str
    provider_model: str
    base_url: str = Field(description="Empty: the provider's own, or the operator's to know.")
    credential_name: str
    operator_owned: bool = Field(description="From the operator's configuration, for all tenants.")
    disabled: bool
    priority: int
    weight: int
    limits: DeploymentLimits
    context_window: int
    capabilities: list[str]
    embedding_dimensions: int
    etag: str
    create_time: datetime | None
    update_time: datetime | None


class DeploymentList(Listing):
    """Deployments by name, the operator's included."""

    deployments: list[Deployment]


class CoolDownInput(Input):
    """When a deployment rests."""

    consecutive_failures: int = Field(default=0, ge=0, le=100, description="In a row. 0: 3.")
    error_rate: float | None = Field(
        default=None, gt=0, le=1, description="Failed share of the last minute. Absent: 0.2."
    )
    seconds: float | None = Field(
        default=None, ge=1, le=3600, description="Until one call is let through. Absent: 60."
    )


class PolicySet(Input):
    """A policy, whole: what is absent takes its default."""

    models: list[ModelName] = Field(
        default=[], max_length=100, description="Empty: all that no other policy names."
    )
    strategy: Strategy = "priority"
    sticky_by_session: bool = False
    fallback_models: list[ModelName] = Field(default=[], max_length=4)
    max_attempts: int = Field(default=0, ge=0, le=5, description="0: 3.")
    hedge_after_seconds: float | None = Field(default=None, ge=0.1, le=30)
    cool_down: CoolDownInput = CoolDownInput()
    etag: str | None = Field(default=None, max_length=64)


class CoolDown(Output):
    """When a deployment rests."""

    consecutive_failures: int
    error_rate: float
    seconds: float


class Policy(Output):
    """How calls of some models are routed."""

    name: str
    models: list[str]
    strategy: str
    sticky_by_session: bool
    fallback_models: list[str]
    max_attempts: int
    hedge_after_seconds: float | None
    cool_down: CoolDown
    etag: str
    update_time: datetime | None


class PolicyList(Listing):
    """The tenant's policies by name."""

    policies: list[Policy]


class PriceSet(Input):
    """What a deployment costs from some time on, for a million tokens each."""

    deployment: DeploymentName
    prompt_million_tokens_micro_usd: Amount = 0
    cached_million_tokens_micro_usd: Amount = 0
    completion_million_tokens_micro_usd: Amount = 0
    effective_time: Moment | None = Field(default=None, description="Absent: now.")


class Price(Output):
    """What a deployment costs for a million tokens, in millionths of a US dollar."""

    deployment: str
    prompt_million_tokens_micro_usd: int
    cached_million_tokens_micro_usd: int
    completion_million_tokens_micro_usd: int
    effective_time: datetime | None = Field(description="null: always.")
    builtin: bool = Field(description="The operator's, or from the list that ships.")


class PriceList(Listing):
    """Prices by deployment, newest first."""

    prices: list[Price]


class DeploymentHealth(Output):
    """How a deployment does, all replicas together."""

    deployment: str
    breaker_state: str = Field(description="`closed`, `open` or `half_open`.")
    retry_time: datetime | None
    requests_in_flight: int
    recent_requests: int = Field(description="That ended in the last minute.")
    error_rate: float
    first_token_p50_seconds: float | None
    first_token_p99_seconds: float | None
    last_failure_reason: str
    last_failure_time: datetime | None


class HealthList(Listing):
    """Health by deployment."""

    deployments: list[DeploymentHealth]


class RouteCandidate(Output):
    """A deployment that was considered."""

    deployment: str
    eligible: bool
    exclusion: str = Field(description="Why not; empty when it is.")
    score: float


class RouteExplanation(Output):
    """Which deployment a call would get now."""

    deployment: str = Field(description="Empty: none can take the call.")
    policy: str = Field(description="Empty: the operator's configuration.")
    candidates: list[RouteCandidate]
