"""RoutingService: protobuf in, domain call, protobuf out."""

from typing import Any, TypeAlias

import grpc.aio

from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceServicer
from meshwright_common.context import principal
from meshwright_model_router.domain.explaining import Explaining
from meshwright_model_router.domain.health import Health
from meshwright_model_router.domain.health_report import state_of
from meshwright_model_router.domain.routing_administration import RoutingAdministration
from meshwright_model_router.domain.routing_store import PriceRow
from meshwright_model_router.wire import health, policies, routing
from meshwright_model_router.wire.paging import page_of

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RoutingServicer(RoutingServiceServicer):
    """Serves RoutingService."""

    def __init__(
        self, administration: RoutingAdministration, health: Health, explaining: Explaining
    ) -> None:
        self._administration = administration
        self._health = health
        self._explaining = explaining

    async def CreateDeployment(
        self, request: pb.CreateDeploymentRequest, context: Context
    ) -> pb.CreateDeploymentResponse:
        """Create a deployment of the caller's tenant."""
        caller = principal()
        made = await self._administration.create_deployment(
            routing.new_deployment(request.deployment, caller.tenant_id),
            routing.create_request(request, caller.subject),
        )
        return pb.CreateDeploymentResponse(deployment=routing.deployment_message(made))

    async def GetDeployment(
        self, request: pb.GetDeploymentRequest, context: Context
    ) -> pb.GetDeploymentResponse:
        """Read one deployment."""
        name = routing.deployment_name(request.name)
        found = await self._administration.deployment(principal().tenant_id, name)
        return pb.GetDeploymentResponse(deployment=routing.deployment_message(found))

    async def ListDeployments(
        self, request: pb.ListDeploymentsRequest, context: Context
    ) -> pb.ListDeploymentsResponse:
        """List deployments by name."""
        tenant_id, model = principal().tenant_id, routing.model_name(request.model)
        found = await self._administration.deployments(tenant_id, model)
        page, info = page_of(
            found, lambda one: one.name, request.page, tenant_id, "deployments", model
        )
        return pb.ListDeploymentsResponse(
            deployments=[routing.deployment_message(one) for one in page], page=info
        )

    async def UpdateDeployment(
        self, request: pb.UpdateDeploymentRequest, context: Context
    ) -> pb.UpdateDeploymentResponse:
        """Change a deployment."""
        name, etag, change = routing.changed(request)
        after = await self._administration.update_deployment(
            principal().tenant_id, name, etag, change
        )
        return pb.UpdateDeploymentResponse(deployment=routing.deployment_message(after))

    async def DeleteDeployment(
        self, request: pb.DeleteDeploymentRequest, context: Context
    ) -> pb.DeleteDeploymentResponse:
        """Remove a deployment."""
        name = routing.deployment_name(request.name)
        await self._administration.delete_deployment(principal().tenant_id, name)
        return pb.DeleteDeploymentResponse()

    async def ListHealth(
        self, request: pb.ListHealthRequest, context: Context
    ) -> pb.ListHealthResponse:
        """List how deployments do, by name."""
        tenant_id, model = principal().tenant_id, routing.model_name(request.model)
        found = await self._administration.deployments(tenant_id, model)
        page, info = page_of(found, lambda one: one.name, request.page, tenant_id, "health", model)
        return pb.ListHealthResponse(
            deployments=[
                health.health_message(one.name, state_of(self._health, one.deployment))
                for one in page
            ],
            page=info,
        )

    async def ExplainRoute(
        self, request: pb.ExplainRouteRequest, context: Context
    ) -> pb.ExplainRouteResponse:
        """Say who would be asked now, and why not the others."""
        operation, needs = health.needs_from(request)
        explained = await self._explaining.explain(
            routing.model_name(request.model), operation, needs
        )
        return health.explanation_message(explained)

    async def SetPolicy(
        self, request: pb.SetPolicyRequest, context: Context
    ) -> pb.SetPolicyResponse:
        """Create or replace a policy."""
        record = await self._administration.set_policy(
            principal().tenant_id, policies.policy_from(request.policy), request.policy.etag
        )
        return pb.SetPolicyResponse(policy=policies.policy_message(record))

    async def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: Context
    ) -> pb.ListPoliciesResponse:
        """List the tenant's policies by name."""
        tenant_id = principal().tenant_id
        found = await self._administration.policies(tenant_id)
        page, info = page_of(
            found, lambda one: one.policy.name, request.page, tenant_id, "policies"
        )
        return pb.ListPoliciesResponse(
            policies=[policies.policy_message(one) for one in page], page=info
        )

    async def DeletePolicy(
        self, request: pb.DeletePolicyRequest, context: Context
    ) -> pb.DeletePolicyResponse:
        """Remove a policy."""
        name = policies.policy_name(request.name)
        await self._administration.delete_policy(principal().tenant_id, name)
        return pb.DeletePolicyResponse()

    async def SetPrice(self, request: pb.SetPriceRequest, context: Context) -> pb.SetPriceResponse:
        """Say what a deployment costs from some time on."""
        name, prices, since = routing.price_from(request.price)
        period = await self._administration.set_price(principal().tenant_id, name, prices, since)
        return pb.SetPriceResponse(price=routing.price_message(PriceRow(name, period)))

    async def ListPrices(
        self, request: pb.ListPricesRequest, context: Context
    ) -> pb.ListPricesResponse:
        """List prices by deployment, newest first."""
        tenant_id = principal().tenant_id
        name = routing.deployment_name(request.deployment) if request.deployment else ""
        at = routing.moment(request, "time", "time")
        found = await self._administration.prices(tenant_id, name, at)
        scope = (tenant_id, "prices", name, "" if at is None else at.isoformat())
        page, info = page_of(found, _price_key, request.page, *scope)
        return pb.ListPricesResponse(prices=[routing.price_message(one) for one in page], page=info)


def _price_key(row: PriceRow) -> str:
    """Return a text that orders prices by deployment, newest first."""
    # The distance from a moment after all of them: the newest has the least.
    age = 10**18 - int(row.period.since.timestamp() * 1_000_000)
    return f"{row.deployment}\0{age:019d}"
