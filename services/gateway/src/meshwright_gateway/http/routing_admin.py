"""Deployments of models, policies, prices, and how deployments do."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime

from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright_gateway.http.paging import (
    API_PREFIX,
    IdempotencyKey,
    NamePath,
    PageSize,
    PageToken,
)
from meshwright_gateway.http.schemas import routing as schemas
from meshwright_gateway.wire import routing, values

if TYPE_CHECKING:
    from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub

ModelFilter = Annotated[str, Query(max_length=128, description="Only of this model. Absent: all.")]
PolicyName = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,64}$")]


def deployments_router(stub: "RoutingServiceAsyncStub") -> APIRouter:
    """Return the routes about deployments."""
    router = APIRouter(prefix=f"{API_PREFIX}/routing/deployments", tags=["routing"])

    @router.get("")
    async def list_deployments(
        model: ModelFilter = "", page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.DeploymentList:
        """Deployments that the tenant may use by name, the operator's included."""
        answer = await stub.ListDeployments(
            pb.ListDeploymentsRequest(page=values.page_request(page_size, page_token), model=model)
        )
        return schemas.DeploymentList(
            deployments=[routing.deployment_view(one) for one in answer.deployments],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def create_deployment(
        body: schemas.DeploymentCreate, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Deployment:
        """Create a deployment. It takes calls on every replica two seconds later at most."""
        answer = await stub.CreateDeployment(
            pb.CreateDeploymentRequest(
                deployment=routing.deployment_message(body), request_id=idempotency_key
            )
        )
        response.headers["location"] = f"/api/v1/routing/deployments/{answer.deployment.name}"
        return routing.deployment_view(answer.deployment)

    @router.get("/{name}")
    async def get_deployment(name: NamePath) -> schemas.Deployment:
        """One deployment."""
        answer = await stub.GetDeployment(pb.GetDeploymentRequest(name=name))
        return routing.deployment_view(answer.deployment)

    @router.patch("/{name}")
    async def update_deployment(
        name: NamePath, body: schemas.DeploymentChange
    ) -> schemas.Deployment:
        """Change a deployment of the tenant; running calls are not touched."""
        answer = await stub.UpdateDeployment(routing.update_request(name, body))
        return routing.deployment_view(answer.deployment)

    @router.delete("/{name}", status_code=204)
    async def delete_deployment(name: NamePath) -> None:
        """Remove a deployment of the tenant. Removing an absent one succeeds."""
        await stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=name))

    return router


def policies_router(stub: "RoutingServiceAsyncStub") -> APIRouter:
    """Return the routes about policies."""
    router = APIRouter(prefix=f"{API_PREFIX}/routing/policies", tags=["routing"])

    @router.get("")
    async def list_policies(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.PolicyList:
        """Policies of the tenant by name."""
        answer = await stub.ListPolicies(
            pb.ListPoliciesRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.PolicyList(
            policies=[routing.policy_view(one) for one in answer.policies],
            next_page_token=answer.page.next_page_token,
        )

    @router.put("/{name}")
    async def set_policy(name: PolicyName, body: schemas.PolicySet) -> schemas.Policy:
        """Create a policy, or replace the one with its name."""
        answer = await stub.SetPolicy(
            pb.SetPolicyRequest(policy=routing.policy_message(name, body))
        )
        return routing.policy_view(answer.policy)

    @router.delete("/{name}", status_code=204)
    async def delete_policy(name: PolicyName) -> None:
        """Remove a policy. Removing an absent one succeeds."""
        await stub.DeletePolicy(pb.DeletePolicyRequest(name=name))

    return router


def prices_router(stub: "RoutingServiceAsyncStub") -> APIRouter:
    """Return the routes about prices."""
    router = APIRouter(prefix=f"{API_PREFIX}/routing/prices", tags=["routing"])

    @router.get("")
    async def list_prices(
        deployment: Annotated[str, Query(max_length=256, description="Absent: all.")] = "",
        time: Annotated[
            AwareDatetime | None, Query(description="Only those in force then. Absent: all.")
        ] = None,
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.PriceList:
        """Prices by deployment, newest first."""
        answer = await stub.ListPrices(
            pb.ListPricesRequest(
                page=values.page_request(page_size, page_token),
                deployment=deployment,
                time=values.timestamp_of(time),
            )
        )
        return schemas.PriceList(
            prices=[routing.price_view(one) for one in answer.prices],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def set_price(body: schemas.PriceSet) -> schemas.Price:
        """Say what a deployment costs from some time on. Calls of the past keep their cost."""
        answer = await stub.SetPrice(pb.SetPriceRequest(price=routing.price_message(body)))
        return routing.price_view(answer.price)

    return router


def reports_router(stub: "RoutingServiceAsyncStub") -> APIRouter:
    """Return the routes that say how deployments do, and why one is chosen."""
    router = APIRouter(prefix=f"{API_PREFIX}/routing", tags=["routing"])

    @router.get("/health")
    async def list_health(
        model: ModelFilter = "", page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.HealthList:
        """How deployments do by name, all replicas together, two seconds old at most."""
        answer = await stub.ListHealth(
            pb.ListHealthRequest(page=values.page_request(page_size, page_token), model=model)
        )
        return schemas.HealthList(
            deployments=[routing.health_view(one) for one in answer.deployments],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/explain")
    async def explain_route(
        model: Annotated[str, Query(max_length=128, description="Absent: the default.")] = "",
        session_id: Annotated[str, Query(max_length=64)] = "",
        prompt_tokens: Annotated[int, Query(ge=0, le=2**53)] = 0,
        capabilities: Annotated[list[str] | None, Query(max_length=16)] = None,
    ) -> schemas.RouteExplanation:
        """Which deployment a call would get now, and why not the others. Calls no provider."""
        answer = await stub.ExplainRoute(
            pb.ExplainRouteRequest(
                model=model,
                session_id=session_id,
                prompt_tokens=prompt_tokens,
                capabilities=capabilities or [],
            )
        )
        return routing.explanation_view(answer)

    return router
