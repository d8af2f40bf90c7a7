"""The framework's part of the API: routes that answer in one piece."""

from typing import Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from meshwright_common.errors import Internal, InvalidArgument, ServiceError
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.status import INTERNAL_TEXT
from meshwright_gateway.errors import MethodNotAllowed, RouteNotFound, misshapen
from meshwright_gateway.http.agents import agents_router, tasks_router
from meshwright_gateway.http.budgets import budgets_router
from meshwright_gateway.http.contexts import contexts_router
from meshwright_gateway.http.directory import EXCHANGE_KEY, directory_router, token_router
from meshwright_gateway.http.erasures import erasures_router
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.guards import guards_router
from meshwright_gateway.http.interrupts import interrupts_router
from meshwright_gateway.http.knowledge import (
    documents_router,
    knowledge_bases_router,
    search_router,
)
from meshwright_gateway.http.mcp import mcp_router
from meshwright_gateway.http.memories import memories_router
from meshwright_gateway.http.notifications import notifications_router
from meshwright_gateway.http.openai_models import openai_router
from meshwright_gateway.http.problems import Problem
from meshwright_gateway.http.records import audit_router, usage_router
from meshwright_gateway.http.routing_admin import (
    deployments_router,
    policies_router,
    prices_router,
    reports_router,
)
from meshwright_gateway.http.schedules import schedules_router
from meshwright_gateway.http.session_history import messages_router, session_history_router
from meshwright_gateway.http.sessions import sessions_router, turns_router
from meshwright_gateway.http.texts import texts_router
from meshwright_gateway.http.tools import models_router, tools_router
from meshwright_gateway.http.users import users_router
from meshwright_gateway.http.validation import shape_error
from meshwright_gateway.http.webhooks import deliveries_router, webhooks_router
from meshwright_gateway.http.workflows import workflows_router
from meshwright_gateway.peers import Peers

_EMPTY: Final = frozenset({b"", b"{}"})


def make_framework(peers: Peers, tokens: TokenMinter) -> FastAPI:
    """Return the routes as one application. It neither authenticates nor reads bodies itself."""
    framework = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_refuse_stray_body)],
    )
    for router in (
        sessions_router(peers),
        session_history_router(peers),
        messages_router(peers),
        contexts_router(peers),
        turns_router(peers),
        agents_router(peers.agent_registry),
        tasks_router(peers.agents),
        interrupts_router(peers.agents),
        schedules_router(peers.workflows),
        workflows_router(peers.workflows),
        knowledge_bases_router(peers.knowledge),
        documents_router(peers.knowledge),
        search_router(peers.retrieval),
        tools_router(peers.tools),
        mcp_router(peers.mcp),
        models_router(peers.models),
        deployments_router(peers.routing),
        policies_router(peers.routing),
        prices_router(peers.routing),
        reports_router(peers.routing),
        guards_router(peers.guards),
        usage_router(peers.usage),
        budgets_router(peers.budgets),
        audit_router(peers.audit),
        notifications_router(peers.notifications),
        webhooks_router(peers.webhooks),
        deliveries_router(peers.webhooks),
        memories_router(peers.memories),
        directory_router(peers.directory),
        users_router(peers.directory),
        erasures_router(peers.erasures),
        token_router(tokens),
        openai_router(peers.models),
        texts_router(peers.models),
    ):
        framework.include_router(router)
    framework.add_exception_handler(ServiceError, _on_service_error)
    framework.add_exception_handler(RequestValidationError, _on_wrong_shape)
    framework.add_exception_handler(HTTPException, _on_http_error)
    framework.add_exception_handler(Exception, _on_defect)
    return framework


async def _refuse_stray_body(request: Request) -> None:
    """Refuse what a request says to a route that does not listen."""
    if request.scope["route"].body_field is None and await request.body() not in _EMPTY:
        raise misshapen("body", "must be empty: this request takes none")


async def _on_defect(request: Request, error: Exception) -> Response:
    """Answer for a defect of ours; the framework raises it again, for the log."""
    return await _on_service_error(request, Internal(INTERNAL_TEXT))


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this class
    exchange: Exchange = request.scope[EXCHANGE_KEY]
    problem = Problem.of(error, exchange.request_id)
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in problem.headers(exchange.family)
    }
    return Response(
        problem.body(exchange.family, exchange.path),
        status_code=problem.status_for(exchange.family),
        headers=headers,
    )


async def _on_wrong_shape(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    return await _on_service_error(request, shape_error(error.errors(), error.body))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    path, method = request.url.path, request.method
    refusal: ServiceError
    if error.status_code == 404:
        refusal = RouteNotFound(path=path)
    elif error.status_code == 405:
        refusal = MethodNotAllowed(path=path, method=method)
    else:
        refusal = InvalidArgument(str(error.detail))
    response = await _on_service_error(request, refusal)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
