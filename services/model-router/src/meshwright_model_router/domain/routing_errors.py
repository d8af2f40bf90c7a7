"""What a change of deployments, policies and prices may answer with."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
)


class DeploymentNotFound(NotFound):
    """The tenant has no such deployment, and the operator neither."""

    reason = "DEPLOYMENT_NOT_FOUND"
    text = "There is no deployment {deployment}."


class DeploymentExists(AlreadyExists):
    """The name is taken, by the tenant or by the operator."""

    text = "There is a deployment {deployment} already."


class ModelHasPolicy(AlreadyExists):
    """A model is in one policy at most."""

    text = "The policy {policy} rules {model} already."


class OperatorsDeployment(FailedPrecondition):
    """Only the operator's configuration changes it."""

    text = "The deployment {deployment} comes from the operator's configuration."


class EtagOld(Aborted):
    """Somebody changed it after the etag was read."""

    text = "It was changed since: read it again. Its etag is {etag}."


class RequestIdReused(AlreadyExists):
    """The request id was used for another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "request_id was used for another request: use a new one"


class TooMany(FailedPrecondition):
    """The tenant has as many as it may have."""

    text = "A tenant may have {limit} {what}."


class EgressRefused(PermissionDenied):
    """The operator lets no deployment of tenants go to this address."""

    reason = "EGRESS_REFUSED"
