"""Errors of tasks, and which of them may pass by themselves."""

from typing import Final

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from meshwright_orchestrator.domain.models import Failure


class TaskNotFound(NotFound):
    """No such task for this caller. Somebody else's looks the same."""

    reason = "TASK_NOT_FOUND"
    text = "there is no task with this id"


class AgentNotFound(NotFound):
    """No agent of this name."""

    reason = "AGENT_NOT_FOUND"
    text = "there is no agent named {agent}"


class AgentExists(AlreadyExists):
    """The name belongs to an agent that was not defined by the tenant."""

    text = "{agent} is an agent that comes with the platform or joined it: choose another name"


class VersionConflict(Aborted):
    """The agent has other versions than the writer knows of."""

    text = "the newest version of {agent} is {newest}, not {expected}: read it again"


class VersionNotFound(NotFound):
    """No such version of the agent."""

    text = "{agent} has no version {version}"


class TooManyAgents(ResourceExhausted):
    """The tenant has as many agents as it may."""

    text = "a tenant defines at most {limit} agents"


class RequestIdReused(AlreadyExists):
    """The request_id was used for another task."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "request_id was used with another request"


class LeaseLost(Aborted):
    """Another process owns the task, or it has ended: this one must stop and write nothing."""

    reason = "LEASE_LOST"
    text = "this process no longer owns the task"


class StepLimit(ResourceExhausted):
    """The task used its steps without coming to an answer."""

    reason = "STEP_LIMIT"
    text = "the task used its {max_steps} steps without coming to an answer"


class BudgetExceeded(ResourceExhausted):
    """A bound of the budget of the task, and of all that it started, leaves no room for more."""

    reason = "BUDGET_EXCEEDED"
    text = "the budget of the task is used up: {budget} is {limit}"


class InterruptNotFound(NotFound):
    """No such question for this caller. Somebody else's looks the same."""

    reason = "INTERRUPT_NOT_FOUND"
    text = "the task asked nothing with this id"


class InterruptClosed(FailedPrecondition):
    """The question is no longer open: it was answered, ran out, or its task ended."""

    reason = "TASK_STATE"
    text = "the question is {state}: it takes no answer"


class OutputInvalid(Unavailable):
    """The agent's answer does not fit its output schema, and the model could not mend it."""

    reason = "OUTPUT_INVALID"
    text = "the answer does not fit the agent's output_schema: {wrong}"


class AnswerTruncated(Unavailable):
    """The model's stream ended without its last event."""

    reason = "PROVIDER_TRUNCATED"
    text = "the model's answer broke off"


class JournalUnreadable(DataLoss):
    """The journal holds a step that the engine would not have done: it is not continued."""

    text = "the journal of this task does not fit its engine"


class TooManyTasks(ResourceExhausted):
    """This process runs as many tasks as it may."""

    text = "too many tasks are running here"


class Backlogged(ResourceExhausted):
    """So much waits that batch work is refused until it is less."""

    text = "more than {limit} tasks wait for a worker: work of low priority is refused for now"


class CursorExpired(OutOfRange):
    """The position is none of this task."""

    reason = "CURSOR_EXPIRED"
    text = "after_sequence is no position of this task"


_PASSING_CODES: Final = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"}
)
_LASTING_REASONS: Final = frozenset(
    {
        *("TOO_LARGE", "STEP_LIMIT", "BUDGET_EXCEEDED", "DOCUMENT_LIMIT"),
        *("TASK_EXPIRED", "TASK_CANCELLED"),
    }
)


def failure_of(error: ServiceError) -> Failure:
    """Return what a task that ended by `error` tells its readers."""
    retryable = error.code in _PASSING_CODES and error.reason not in _LASTING_REASONS
    return Failure(error.reason, error.message, retryable)


EXPIRED: Final = Failure("TASK_EXPIRED", "the task did not end before its deadline", False)
CANCELLED: Final = Failure("TASK_CANCELLED", "the task was cancelled", False)
NOBODY_ANSWERED: Final = Failure("TASK_EXPIRED", "nobody answered in time", False)
NOT_TAKEN: Final = Failure(
    "TASK_EXPIRED", "no worker took the task in time, however often it was offered", True
)
