"""What requests need beside ids, so that their owner's own call succeeds.

By field name, by `Message.field`, or by `path field` (a method's `/package.Service/Method`, a
route's `METHOD /path`) where one wants another value: the narrowest counts. `path without` names
fields that are left out.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import field_mask_pb2, json_format, struct_pb2
from google.protobuf.message import Message

from meshwright.model_router.v1 import guard_service_pb2
from meshwright.orchestrator.v1 import agent_pb2, workflow_pb2
from meshwright.rag.v1 import knowledge_service_pb2
from meshwright.session.v1 import memory_service_pb2, tenant_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.ids import new_id
from tests.webhook_receiver import NOWHERE_HOST


def _said(role: message_pb2.Role.ValueType, text: str) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=[message_pb2.ContentPart(text=text)])


def a_name() -> str:
    """Return a name that nobody has."""
    return f"name-{new_id()}"


QUESTION: Final = _said(message_pb2.ROLE_USER, "Hello")
ANSWER: Final = _said(message_pb2.ROLE_ASSISTANT, "Hello yourself")
APPROVED: Final = struct_pb2.Struct(fields={"approved": struct_pb2.Value(bool_value=True)})
UPLOADED: Final[tuple[Message, ...]] = (
    knowledge_service_pb2.UploadDocumentRequest(data=b"Mine now."),
)
"""What follows the first message of an upload."""

_AGENTS: Final = "/meshwright.orchestrator.v1.AgentService"
_DIRECTORY: Final = "/meshwright.session.v1.DirectoryService"
_KNOWLEDGE: Final = "/meshwright.rag.v1.KnowledgeService"
_MEMORY: Final = "/meshwright.session.v1.MemoryService"
_MODELS: Final = "/meshwright.model_router.v1.ModelService"
_ROUTING: Final = "/meshwright.model_router.v1.RoutingService"
_DEPLOYMENTS: Final = "/api/v1/routing/deployments"
_POLICY: Final = "/api/v1/routing/policies/{name}"
NOWHERE: Final = "http://localhost:9/v1"
"""An address that the tests' platforms let deployments have."""
NOWHERE_MCP: Final = f"http://{NOWHERE_HOST}/mcp"
"""An address where tenants of the tests' platforms may have MCP servers."""
_MCP: Final = "/meshwright.tool_exec.v1.McpService"
_GUARD: Final = guard_service_pb2.Guard(
    name="mine",
    action=guard_service_pb2.GUARD_ACTION_REPORT,
    words=guard_service_pb2.WordGuard(phrases=["quux"]),
)
_SESSIONS: Final = "/meshwright.session.v1.SessionService"
_WEBHOOKS: Final = "/meshwright.session.v1.WebhookService"
_WORKFLOWS: Final = "/meshwright.orchestrator.v1.WorkflowService"

_NAP: Final = {"name": "nap", "action": {"delay": "1s"}}
_WORKFLOW: Final = json_format.ParseDict({"steps": [_NAP]}, workflow_pb2.WorkflowDefinition())

SAMPLES: Final[dict[str, object]] = {
    "query": "Hello",
    "text": "Hello",
    "top_k": 5,
    "messages": QUESTION,
    "StreamChatRequest.message": "Hello",
    "StreamChatRequest.agent": "chat",
    "TaskSpec.agent": "chat",
    "RateTurnRequest.rating": 1,
    f"{_WEBHOOKS}/CreateWebhook without": ("webhook_id",),
    f"{_WEBHOOKS}/UpdateWebhook update_mask": field_mask_pb2.FieldMask(paths=["description"]),
    "Webhook.url": f"http://{NOWHERE_HOST}/",
    f"{_WORKFLOWS}/CreateSchedule without": ("schedule_id", "last_run_id", "workflow"),
    "CreateWorkflowRequest.name": a_name,
    "CreateWorkflowRequest.definition": _WORKFLOW,
    "Schedule.name": a_name,
    "Schedule.cron": "0 0 1 1 *",
    "UsageAttribution.step": 1,
    "UsageAttribution.attempt": 1,
    "EmbedRequest.texts": "Hello",
    "ModerateRequest.texts": "Hello",
    "RerankRequest.documents": "Hello",
    f"{_ROUTING}/CreateDeployment name": a_name,
    f"{_ROUTING}/UpdateDeployment update_mask": field_mask_pb2.FieldMask(paths=["weight"]),
    "Deployment.model": "mine",
    "Deployment.provider": "openai",
    "Deployment.base_url": NOWHERE,
    # The same twice: a policy for all models is one.
    "RoutingPolicy.name": "mine",
    "DeletePolicyRequest.name": "mine",
    "SetGuardRequest.guard": _GUARD,
    "DefineAgentRequest.name": "mine",
    "ResumeTaskRequest.payload": APPROVED,
    "DefineAgentRequest.definition": agent_pb2.AgentDefinition(type=agent_pb2.AGENT_TYPE_CHAT),
    "RollbackAgentRequest.version": 1,
    "RegisterAgentRequest.agent": "joined",
    "RegisterAgentRequest.address": "127.0.0.1:9",
    "UpdateStatusRequest.load": agent_pb2.AgentLoad(cpu_free=1, memory_free=1),
    "CreateKnowledgeBaseRequest.name": a_name,
    "KnowledgeBase.name": a_name,
    "DocumentHeader.name": "mine.txt",
    f"{_KNOWLEDGE}/UploadDocument without": ("data",),
    "AuthenticateApiKeyRequest.api_key_sha256": b"k" * 32,
    f"{_DIRECTORY}/CreateTenant without": ("tenant_id",),
    "Tenant.slug": a_name,
    "Tenant.display_name": "A tenant",
    "Tenant.plan": tenant_pb2.PLAN_STARTER,
    "CreateTenantRequest.owner_name": "owner",
    f"{_DIRECTORY}/CreateUser without": ("user_id",),
    "User.name": a_name,
    "User.roles": "member",
    f"{_SESSIONS}/CreateSession without": ("session_id", "user_id", "parent_session_id"),
    f"{_SESSIONS}/UpdateSession without": ("user_id", "parent_session_id"),
    f"{_SESSIONS}/UpdateSession title": "Another",
    f"{_SESSIONS}/UpdateSession update_mask": field_mask_pb2.FieldMask(paths=["title"]),
    f"{_SESSIONS}/BeginTurn message": QUESTION,
    f"{_SESSIONS}/BeginTurn turn_id": new_id,
    f"{_SESSIONS}/CommitTurn messages": ANSWER,
    f"{_SESSIONS}/CommitTurn question": QUESTION,
    f"{_SESSIONS}/CommitTurn turn_id": new_id,
    f"{_SESSIONS}/WithdrawTurn turn_id": new_id,
    "RestoreSnapshotRequest.version": 0,
    "DiffContextRequest.from_version": 0,
    "DiffContextRequest.to_version": 0,
    f"{_DIRECTORY}/UpdateUser email": "somebody@example.org",
    f"{_DIRECTORY}/UpdateUser update_mask": field_mask_pb2.FieldMask(paths=["email"]),
    "ForgetRequest.all": True,
    "EraseStoredRequest.tenant": True,
    f"{_MEMORY}/Remember batch_id": new_id,
    "NewMemory.kind": memory_service_pb2.MEMORY_KIND_FACT,
    "StoreSummaryRequest.summary": "They said hello.",
    "DescribeToolRequest.name": "knowledge_search",
    "ExecuteToolRequest.name": "knowledge_search",
    "ExecuteToolRequest.arguments_json": '{"query": "Hello"}',
    "ExecuteToolRequest.step": 1,
    # The same again and again: it replaces its own.
    "AddServerRequest.name": "mine",
    "AddServerRequest.replace": True,
    "AddServerRequest.url": NOWHERE_MCP,
    f"{_MCP}/AddServer without": ("credential",),
}
ROUTE_SAMPLES: Final[dict[str, object]] = {
    "query": "Hello",
    "message": "Hello",
    "agent": "chat",
    "POST /api/v1/tasks/{task_id}/resume answer": {"approved": True},
    "PUT /api/v1/agents/{name} name": "mine",
    "PUT /api/v1/agents/{name} definition": {"type": "chat"},
    "POST /api/v1/agents/{name}/rollback version": 1,
    f"POST {_DEPLOYMENTS} name": a_name,
    f"POST {_DEPLOYMENTS} model": "mine",
    f"POST {_DEPLOYMENTS} provider": "openai",
    f"POST {_DEPLOYMENTS} base_url": NOWHERE,
    f"PATCH {_DEPLOYMENTS}/{{name}} weight": 7,
    f"PUT {_POLICY} name": "mine",
    f"DELETE {_POLICY} name": "mine",
    "PUT /api/v1/guards/{name} name": "mine",
    "PUT /api/v1/guards/{name} action": "report",
    "PUT /api/v1/guards/{name} words": {"phrases": ["quux"]},
    "POST /api/v1/guards/check text": "Hello",
    "POST /api/v1/auth/token grant_type": "api_key",
    "POST /v1/chat/completions model": "offline",
    "POST /v1/embeddings model": "builtin-384",
    "GET /v1/models/{model} model": "offline",
    "POST /v1/moderations model": "",
    "POST /v1/rerank model": "",
    "POST /api/v1/mcp/servers name": "mine",
    "POST /api/v1/mcp/servers replace": True,
    "POST /api/v1/mcp/servers url": NOWHERE_MCP,
    "GET /api/v1/tools/{name} name": "knowledge_search",
    "POST /api/v1/tools/{name}/execute name": "knowledge_search",
    "POST /api/v1/tools/{name}/execute arguments": {"query": "Hello"},
    "GET /api/v1/messages/search q": "Hello",
    "PUT /api/v1/sessions/{session_id}/context expected_version": 0,
    "POST /api/v1/sessions/{session_id}/context/restore version": 0,
    "PATCH /api/v1/users/{user_id} email": "somebody@example.org",
    "POST /api/v1/users name": a_name,
    "POST /api/v1/users roles": ["member"],
    "POST /api/v1/knowledge-bases name": a_name,
    "PUT /api/v1/turns/{turn_id}/rating rating": 1,
    "POST /api/v1/webhooks url": f"http://{NOWHERE_HOST}/",
    "PATCH /api/v1/webhooks/{webhook_id} description": "Mine",
    "POST /api/v1/workflows name": a_name,
    "POST /api/v1/workflows definition": {"steps": [_NAP]},
    "POST /api/v1/schedules name": a_name,
    "POST /api/v1/schedules cron": "0 0 1 1 *",
    "POST /api/v1/schedules task": {"agent": "chat", "message": "Hello"},
}

NOT_TRIED: Final = {
    "/meshwright.session.v1.AuditService/RecordDenials": (
        "services alone report refused logins, to the tenant that was asked for"
    ),
    f"{_DIRECTORY}/ConfirmUser": "services alone ask, for whom they have a stream open",
    f"{_DIRECTORY}/ListTenants": "the operator's alone, of all tenants",
    f"{_DIRECTORY}/UpdateTenant": "the operator's alone, who names the tenant",
}
"""Methods and routes that the matrix leaves out, and why."""

UNANSWERED: Final = {
    "/meshwright.chat.v1.ChatService/RegenerateTurn": "only the last turn is answered again",
    "POST /api/v1/turns/{turn_id}/regenerate": "likewise",
    f"{_DIRECTORY}/AuthenticateApiKey": "the sample is the digest of no key",
    f"{_SESSIONS}/CompareAndSetContext": "conflicts with the version that turns have made",
    "PUT /api/v1/sessions/{session_id}/context": "likewise",
    f"{_MEMORY}/StoreSummary": "a batch is due after ten turns",
    f"{_MCP}/RefreshServer": "nobody listens at the sample's address",
    "POST /api/v1/mcp/servers/{name}/refresh": "likewise",
    "/meshwright.tool_exec.v1.ToolService/CancelCall": "only a running call can be cancelled",
}
"""Methods and routes that answer their own caller with a refusal too, and why."""
