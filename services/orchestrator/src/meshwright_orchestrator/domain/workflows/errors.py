"""Errors of workflows."""

from meshwright_common.errors import Aborted, FailedPrecondition, NotFound


class WorkflowNotFound(NotFound):
    """No such workflow in the tenant, or no such version of it."""

    reason = "WORKFLOW_NOT_FOUND"
    text = "there is no such workflow, or no such version of it"


class RunNotFound(NotFound):
    """No such run for this caller. Somebody else's looks the same."""

    reason = "WORKFLOW_RUN_NOT_FOUND"
    text = "there is no run with this id"


class VersionConflict(Aborted):
    """The workflow has another newest version than the writer read."""

    reason = "CONFLICT"
    text = "the newest version is {current_version}"


class TooDeep(FailedPrecondition):
    """Workflows run inside each other deeper than they may."""

    text = "workflows run inside each other {levels} levels deep at most"


class ApprovalRefused(FailedPrecondition):
    """A person said no."""

    reason = "APPROVAL_REFUSED"
    text = "the approval was refused"
