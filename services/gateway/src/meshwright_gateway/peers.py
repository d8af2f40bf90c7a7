"""The services behind the gateway, as stubs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceStub
from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceStub
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceStub
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceStub
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceStub
from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceStub
from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceStub
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceStub
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceStub
from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceStub
from meshwright.tool_exec.v1.mcp_service_pb2_grpc import McpServiceStub
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceStub
from meshwright_common.rpc.channels import Channels

if TYPE_CHECKING:
    from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceAsyncStub
    from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceAsyncStub
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub
    from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import (
        AgentRegistryServiceAsyncStub,
    )
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceAsyncStub
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub
    from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceAsyncStub
    from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub
    from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceAsyncStub
    from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub
    from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from meshwright.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceAsyncStub
    from meshwright.session.v1.webhook_service_pb2_grpc import WebhookServiceAsyncStub
    from meshwright.tool_exec.v1.mcp_service_pb2_grpc import McpServiceAsyncStub
    from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Peers:
    """One stub for each service that the API offers."""

    chat: "ChatServiceAsyncStub"
    sessions: "SessionServiceAsyncStub"
    directory: "DirectoryServiceAsyncStub"
    erasures: "ErasureServiceAsyncStub"
    usage: "UsageServiceAsyncStub"
    audit: "AuditServiceAsyncStub"
    notifications: "NotificationServiceAsyncStub"
    webhooks: "WebhookServiceAsyncStub"
    memories: "MemoryServiceAsyncStub"
    knowledge: "KnowledgeServiceAsyncStub"
    retrieval: "RetrievalServiceAsyncStub"
    agents: "AgentServiceAsyncStub"
    agent_registry: "AgentRegistryServiceAsyncStub"
    workflows: "WorkflowServiceAsyncStub"
    tools: "ToolServiceAsyncStub"
    mcp: "McpServiceAsyncStub"
    models: "ModelServiceAsyncStub"
    routing: "RoutingServiceAsyncStub"
    guards: "GuardServiceAsyncStub"
    budgets: "BudgetServiceAsyncStub"

    @classmethod
    def over(cls, channels: Channels) -> "Peers":
        """Return the stubs over the channels of the process."""
        session = channels.open("session")
        rag = channels.open("rag")
        orchestrator = channels.open("orchestrator")
        router = channels.open("model-router")
        tool_exec = channels.open("tool-exec")
        return cls(
            chat=ChatServiceStub(channels.open("chat")),
            sessions=SessionServiceStub(session),
            directory=DirectoryServiceStub(session),
            erasures=ErasureServiceStub(session),
            usage=UsageServiceStub(session),
            audit=AuditServiceStub(session),
            notifications=NotificationServiceStub(session),
            webhooks=WebhookServiceStub(session),
            memories=MemoryServiceStub(session),
            knowledge=KnowledgeServiceStub(rag),
            retrieval=RetrievalServiceStub(rag),
            agents=AgentServiceStub(orchestrator),
            agent_registry=AgentRegistryServiceStub(orchestrator),
            workflows=WorkflowServiceStub(orchestrator),
            tools=ToolServiceStub(tool_exec),
            mcp=McpServiceStub(tool_exec),
            models=ModelServiceStub(router),
            routing=RoutingServiceStub(router),
            guards=GuardServiceStub(router),
            budgets=BudgetServiceStub(router),
        )
