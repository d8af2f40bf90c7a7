"""What is known of a deployment beyond the choosing: where it is, whose key it takes, its age."""

from dataclasses import dataclass
from datetime import datetime

from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.ports_other import ModerationProvider, RerankProvider
from meshwright_model_router.domain.routing import RoutingPolicy


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as it is kept. The operator's have revision 0 and no times.

    `base_url` "": the provider's own address. `credential_name` "": no named credential.
    """

    deployment: Deployment
    base_url: str = ""
    credential_name: str = ""
    revision: int = 0
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.deployment.name


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A tenant's policy as it is kept."""

    policy: RoutingPolicy
    revision: int = 0
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Providers:
    """The ways to a deployment's model, one a purpose that it has."""

    chat: ChatProvider | None = None
    embedding: EmbeddingProvider | None = None
    rerank: RerankProvider | None = None
    moderation: ModerationProvider | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A deployment with the ways to it."""

    record: DeploymentRecord
    providers: Providers

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.record.deployment
