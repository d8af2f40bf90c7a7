"""What can go wrong here, by the reasons of `meshwright.errors.v1.ErrorReason`."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unauthenticated,
)


class SessionNotFound(NotFound):
    """No such session for this user: absent, another user's and another tenant's look alike."""

    reason = "SESSION_NOT_FOUND"
    text = "There is no such session."


class SessionArchived(FailedPrecondition):
    """The session's messages lie in the archive. Stores tell it the rules; callers never see it."""

    reason = "FAILED_PRECONDITION"
    text = "The session lies in the archive."


class SessionBusy(Aborted):
    """The session went on being written to, or moved back and forth, while it should be moved."""

    reason = "CONFLICT"
    text = "The session is being used: try again."


class ArchiveDamaged(DataLoss):
    """An object of the archive is not what was written."""

    text = "The archived messages of this session are damaged."


class UserNotFound(NotFound):
    """No such user in this tenant."""

    reason = "USER_NOT_FOUND"
    text = "There is no such user."


class TenantNotFound(NotFound):
    """The caller's tenant is not in the directory."""

    reason = "TENANT_NOT_FOUND"
    text = "There is no such tenant."


class ApiKeyNotFound(NotFound):
    """No such API key in this tenant."""

    reason = "API_KEY_NOT_FOUND"
    text = "There is no such API key."


class ContextVersionConflict(Aborted):
    """The context has another version than the writer read."""

    reason = "CONTEXT_VERSION_CONFLICT"
    text = "The context has version {current_version} now: read it again, then write."


class TurnWithdrawn(FailedPrecondition):
    """The turn was taken out of the conversation: nothing of it is stored any more."""

    text = "The turn was withdrawn from its session."


class SessionChanged(Aborted):
    """The session was changed since its etag was read."""

    reason = "CONFLICT"
    text = "The session was changed since: read it again, then update."


class ContextTooLarge(InvalidArgument):
    """The context would be larger than the limit in `limit_bytes`."""

    text = "The context would be larger than {limit_bytes} bytes."


class VersionNotKept(NotFound):
    """The context never had that version, or it is kept no longer."""

    text = "Version {version} of the context is not kept: list the snapshots to see which are."


class ContextSchemaUnknown(FailedPrecondition):
    """The context was written by a newer version of this service; nothing touches it."""

    text = (
        "The context has schema {schema}, and this version of the service knows up to {known}: "
        "deploy the newer version again."
    )


class NameTaken(AlreadyExists):
    """A tenant or user of that name exists."""

    text = "{field} {name!r} is taken: choose another one."


class IdempotencyKeyReused(AlreadyExists):
    """The request id was used before, with another body."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "The request_id was used for another request: use a new one for a new request."


class TenantSuspended(FailedPrecondition):
    """The tenant exists, and its members may not call."""

    reason = "TENANT_SUSPENDED"
    text = "The tenant is suspended."


class TenantDeleting(TenantSuspended):
    """The tenant is being erased: nothing about it can be changed any more."""

    text = "The tenant is being deleted."


class LastOwner(FailedPrecondition):
    """Nobody could act as owner after the change."""

    reason = "LAST_OWNER"
    text = "This is the last owner who can act: make somebody else an owner first."


class UserRefused(Unauthenticated):
    """The user is absent or disabled."""

    text = "The user does not exist any more, or is disabled."


class CredentialRefused(Unauthenticated):
    """The API key opens nothing. Says the same whatever the cause, so that it tells nothing."""

    text = "The API key is not valid."


class GrantRefused(PermissionDenied):
    """The caller would grant what it does not hold."""

    text = "You cannot grant permissions that you do not hold: {permission}."


class NotAUser(PermissionDenied):
    """A service calls where a user has to."""

    text = "Sessions belong to users: call with a user's credential."


class OthersUsage(PermissionDenied):
    """The caller asks for the usage of somebody else."""

    text = "The usage of other users needs the permission {permission}."


class CursorExpired(OutOfRange):
    """No such notification of this caller: absent, dropped and another user's look alike."""

    reason = "CURSOR_EXPIRED"
    text = "You have no notification {notification_id}: list, then watch after the newest one."


class ErasureNotFound(NotFound):
    """No such erasure in this tenant."""

    text = "There is no such erasure."


class LeaseLost(Aborted):
    """Somebody else goes on with this piece of work now: nothing was written."""

    reason = "LEASE_LOST"
    text = "The lease of this work was lost."
