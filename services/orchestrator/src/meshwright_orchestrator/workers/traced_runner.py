"""Attempts of tasks as spans, in the trace of the task's submission, wherever they run.

A span's id follows from the task and the number of its attempt. So a later attempt can be linked
to the one before, although that ran in a process that died and told nobody the ids of its spans.
"""

import hashlib

from meshwright_common import context
from meshwright_common.telemetry import genai, trace_context, tracing
from meshwright_common.telemetry.spans import Kind
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.runner import TaskRunner
from meshwright_orchestrator.domain.workbench import Workbench


def attempt_span(task_id: str, attempt: int) -> str:
    """Return the id of an attempt's span: 16 hexadecimal digits."""
    return hashlib.blake2b(f"{task_id}/{attempt}".encode(), digest_size=8).hexdigest()


class TracedRunner(TaskRunner):
    """A `TaskRunner` that makes a span of each attempt. Call contexts hold the task's trace."""

    async def run(self, bench: Workbench) -> TaskState | None:
        if not tracing.is_enabled():
            return await super().run(bench)
        task = bench.task
        own = attempt_span(task.task_id, task.attempt)
        name = genai.agent_name(task.spec.agent)
        span = tracing.serve(name, Kind.INTERNAL, span_id=own)
        # A task takes as long as its work: only failures are worth keeping for themselves.
        span.answered()
        if span.recording:
            genai.describe_agent(
                span,
                agent=task.spec.agent,
                version=task.limits.agent_version,
                conversation_id=task.spec.session_id,
            )
            span.set("meshwright.task_id", task.task_id)
            span.set("meshwright.tenant_id", task.tenant_id)
            span.set("meshwright.attempt", task.attempt)
            if task.attempt > 1:
                before = attempt_span(task.task_id, task.attempt - 1)
                here = context.current().traceparent
                span.links = (trace_context.child_of(here, sampled=True, span=before),)
        try:
            state = await super().run(bench)
        except BaseException as error:
            span.failed_by(error)
            raise
        else:
            span.set("meshwright.task_state", "" if state is None else state.value)
            if state is TaskState.FAILED:
                span.fail(state.value)
            return state
        finally:
            span.end()
