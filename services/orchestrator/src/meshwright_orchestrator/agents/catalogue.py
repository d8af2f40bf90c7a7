"""All agents that come with the platform."""

from typing import Final

from meshwright_orchestrator.agents.chat import CHAT
from meshwright_orchestrator.agents.plan_execute import PLAN_EXECUTE
from meshwright_orchestrator.agents.rag import RAG
from meshwright_orchestrator.agents.supervisor import SUPERVISOR
from meshwright_orchestrator.agents.tool_call import TOOL_CALL
from meshwright_orchestrator.domain.agents import BuiltinAgents

BUILTIN: Final = BuiltinAgents((CHAT, RAG, TOOL_CALL, PLAN_EXECUTE, SUPERVISOR))
