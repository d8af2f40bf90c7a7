"""Deployments, policies and prices: requests as domain values, domain values as answers."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.model_router.v1 import deployment_pb2 as pb
from meshwright.model_router.v1 import routing_service_pb2
from meshwright_common.errors import invalid
from meshwright_model_router.domain.addresses import base_url_from
from meshwright_model_router.domain.catalogue import (
    CAPABILITIES,
    TENANTS_KINDS,
    WILDCARD,
    Deployment,
)
from meshwright_model_router.domain.pricing import BEGINNING, Prices
from meshwright_model_router.domain.routing import (
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    DeploymentLimits,
)
from meshwright_model_router.domain.routing_records import DeploymentRecord
from meshwright_model_router.domain.routing_store import CreateRequest, PriceRow
from meshwright_model_router.domain.usage import Operation

MAX_INTEGER: Final = 2**31 - 1
MAX_LONG: Final = 2**53
MAX_DIMENSIONS: Final = 16_384
MAX_REQUEST_ID: Final = 128
MAX_URL: Final = 512

DEPLOYMENT_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_ANY_DEPLOYMENT_NAME: Final = re.compile(r"[A-Za-z0-9._:/@+*-]{1,256}")
"""The operator's may have names that are the models'."""
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_PROVIDER_MODEL: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}|\*")
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

CHANGEABLE: Final = (
    *("model", "provider_model", "base_url", "credential_name", "disabled", "priority", "weight"),
    *("limits", "context_window", "capabilities", "embedding_dimensions"),
)


def new_deployment(message: pb.Deployment, tenant_id: str) -> DeploymentRecord:
    """Return the deployment to create. Raises: InvalidArgument naming the field."""
    if not DEPLOYMENT_NAME.fullmatch(message.name):
        raise invalid("deployment.name", "must be 1 to 64 of a-z 0-9 _ . -")
    if message.provider not in TENANTS_KINDS:
        raise invalid("deployment.provider", f"must be one of {', '.join(TENANTS_KINDS)}")
    for field in ("operator_owned", "etag"):
        if getattr(message, field):
            raise invalid(f"deployment.{field}", "is the platform's to say")
    for field in ("create_time", "update_time"):
        if message.HasField(field):  # type: ignore[arg-type]
            raise invalid(f"deployment.{field}", "is the platform's to say")
    blank = DeploymentRecord(
        Deployment(message.name, "", message.provider, tenant_id=tenant_id),
    )
    return _checked(_with(blank, message, CHANGEABLE))


def changed(
    request: routing_service_pb2.UpdateDeploymentRequest,
) -> tuple[str, str, Callable[[DeploymentRecord], DeploymentRecord]]:
    """Return which deployment to change, the etag it must have, and the change.

    Raises: InvalidArgument naming the field; so does the change for fields that do not fit.
    """
    message, paths = request.deployment, tuple(request.update_mask.paths)
    if not paths:
        raise invalid("update_mask", f"must name some of {', '.join(CHANGEABLE)}")
    limits = tuple(f"limits.{one.name}" for one in fields(DeploymentLimits))
    unknown = sorted(set(paths) - {*CHANGEABLE, *limits})
    if unknown:
        raise invalid("update_mask", f"cannot change {', '.join(unknown)}")

    def change(record: DeploymentRecord) -> DeploymentRecord:
        return _checked(_with(record, message, paths))

    return deployment_name(message.name, "deployment.name"), message.etag, change


def deployment_name(name: str, field: str = "name") -> str:
    """Return the name of a deployment to look for. Raises: InvalidArgument."""
    if not _ANY_DEPLOYMENT_NAME.fullmatch(name):
        raise invalid(field, "must be the name of a deployment")
    return name


def model_name(name: str, field: str = "model") -> str:
    """Return the name of a model, or "". Raises: InvalidArgument."""
    if name and not MODEL_NAME.fullmatch(name.removesuffix(WILDCARD)):
        raise invalid(field, "must be 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, or empty")
    return name


def create_request(
    request: routing_service_pb2.CreateDeploymentRequest, subject: str
) -> CreateRequest | None:
    """Return what makes a creation repeatable. Raises: InvalidArgument."""
    request_id = request.request_id
    if not request_id:
        return None
    if len(request_id) > MAX_REQUEST_ID or not request_id.isprintable():
        raise invalid("request_id", f"must have at most {MAX_REQUEST_ID} printable characters")
    return CreateRequest(
        hashlib.sha256(f"{len(subject)}:{subject}{request_id}".encode()).digest(),
        hashlib.sha256(request.deployment.SerializeToString(deterministic=True)).digest(),
    )


def deployment_message(record: DeploymentRecord) -> pb.Deployment:
    """Return a deployment as its tenant sees it."""
    one, limits = record.deployment, record.deployment.limits
    return pb.Deployment(
        name=one.name,
        model=one.model,
        provider=one.provider,
        provider_model=one.provider_model,
        base_url=record.base_url,
        credential_name=record.credential_name,
        operator_owned=not one.tenant_id,
        disabled=one.disabled,
        priority=one.priority,
        weight=one.weight,
        limits=pb.DeploymentLimits(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
        ),
        context_window=one.context_window,
        capabilities=one.capabilities,
        etag=str(record.revision) if one.tenant_id else "",
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        embedding_dimensions=one.embedding_dimensions,
    )


def price_from(message: pb.Price) -> tuple[str, Prices, datetime | None]:
    """Return deployment, prices, and from when on; None: from now. Raises: InvalidArgument."""
    if message.builtin:
        raise invalid("price.builtin", "is the platform's to say")
    prices = Prices(
        input=_integer(
            message.prompt_million_tokens_micro_usd, "price.prompt_million_tokens_micro_usd"
        ),
        output=_integer(
            message.completion_million_tokens_micro_usd,
            "price.completion_million_tokens_micro_usd",
        ),
        cached=_integer(
            message.cached_million_tokens_micro_usd, "price.cached_million_tokens_micro_usd"
        ),
    )
    name = deployment_name(message.deployment, "price.deployment")
    return name, prices, moment(message, "effective_time", "price.effective_time")


def price_message(row: PriceRow) -> pb.Price:
    """Return a price as its tenant sees it."""
    prices, since = row.period.prices, row.period.since
    return pb.Price(
        deployment=row.deployment,
        prompt_million_tokens_micro_usd=prices.input,
        cached_million_tokens_micro_usd=prices.cached_or_input,
        completion_million_tokens_micro_usd=prices.output,
        effective_time=None if since == BEGINNING else timestamp(since),
        builtin=row.period.builtin,
    )


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return the wire form; None stays None."""
    if moment is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire


def moment(message: Message, field: str, named: str) -> datetime | None:
    """Return the time in a field; None when it is absent. Raises: InvalidArgument."""
    if not message.HasField(field):
        return None
    wire: Timestamp = getattr(message, field)
    try:
        value = wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise invalid(named, "is no time of the calendar") from None
    if not 1970 <= value.year < 9998:
        raise invalid(named, "must be between 1970 and 9998")
    return value


def _with(
    record: DeploymentRecord, message: pb.Deployment, paths: tuple[str, ...]
) -> DeploymentRecord:
    """Return `record` with the values that `message` has at `paths`."""
    one, limits = record.deployment, record.deployment.limits
    for path in paths:
        match path:
            case "base_url":
                record = replace(record, base_url=_base_url(message.base_url))
            case "credential_name":
                record = replace(record, credential_name=message.credential_name)
            case "capabilities":
                one = replace(one, capabilities=tuple(message.capabilities))
            case "priority":
                one = replace(one, priority=message.priority or DEFAULT_PRIORITY)
            case "weight":
                one = replace(one, weight=message.weight or DEFAULT_WEIGHT)
            case "limits":
                for field in fields(DeploymentLimits):
                    value = getattr(message.limits, field.name)
                    limits = replace(limits, **{field.name: value})
            case _ if path.startswith("limits."):
                name = path.removeprefix("limits.")
                limits = replace(limits, **{name: getattr(message.limits, name)})
            case _:
                one = replace(one, **{path: getattr(message, path)})
    return replace(record, deployment=replace(one, limits=limits))


def _checked(record: DeploymentRecord) -> DeploymentRecord:
    """Return a tenant's deployment if all fits together. Raises: InvalidArgument."""
    one = record.deployment
    if not MODEL_NAME.fullmatch(one.model.removesuffix(WILDCARD)):
        raise invalid(
            "deployment.model",
            "must be 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, optionally with one * at the end",
        )
    if one.provider_model and not _PROVIDER_MODEL.fullmatch(one.provider_model):
        raise invalid("deployment.provider_model", "must be 1 to 256 of A-Z a-z 0-9 . _ : / @ + -")
    if one.provider_model == WILDCARD and not one.is_pattern:
        raise invalid("deployment.provider_model", "may be * only when model ends with *")
    if one.is_pattern and not one.provider_model:
        raise invalid("deployment.provider_model", "must be set (or *) when model ends with *")
    name = record.credential_name
    if name and not _CREDENTIAL_NAME.fullmatch(name):
        raise invalid("deployment.credential_name", "must be 1 to 64 of A-Z a-z 0-9 _ . -")
    if not 1 <= one.priority <= 100:
        raise invalid("deployment.priority", "must be 1 to 100, or 0 for 50")
    if not 1 <= one.weight <= 1000:
        raise invalid("deployment.weight", "must be 1 to 1000, or 0 for 100")
    for field in fields(DeploymentLimits):
        _integer(getattr(one.limits, field.name), f"deployment.limits.{field.name}")
    _integer(one.context_window, "deployment.context_window", MAX_INTEGER)
    _check_capabilities(one)
    return record


def _check_capabilities(one: Deployment) -> None:
    unknown = sorted(set(one.capabilities) - CAPABILITIES)
    if unknown or len(set(one.capabilities)) != len(one.capabilities):
        known = ", ".join(sorted(CAPABILITIES))
        raise invalid("deployment.capabilities", f"must be some of {known}, each once")
    embeds = Operation.EMBED.value in one.capabilities
    if embeds != bool(one.embedding_dimensions):
        raise invalid(
            "deployment.embedding_dimensions", 'belong to what has the capability "embed"'
        )
    _integer(one.embedding_dimensions, "deployment.embedding_dimensions", MAX_DIMENSIONS)


def _base_url(value: str) -> str:
    if not value:
        return ""
    if len(value) > MAX_URL or not value.isascii() or not value.isprintable() or " " in value:
        raise invalid("deployment.base_url", f"must have at most {MAX_URL} visible characters")
    try:
        return base_url_from(value)
    except ValueError as error:
        raise invalid("deployment.base_url", str(error)) from None


def _integer(value: int, field: str, most: int = MAX_LONG) -> int:
    if not 0 <= value <= most:
        raise invalid(field, f"must be 0 to {most}")
    return value
