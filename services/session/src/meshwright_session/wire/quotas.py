"""Limits: those of plans, those agreed with a tenant, and what is used of them."""

from typing import Final

from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import invalid
from meshwright_session.domain import plans
from meshwright_session.domain.directory_models import NOTHING_AGREED, Agreed
from meshwright_session.domain.plans import Limits
from meshwright_session.domain.tenant_models import Use

MODELS_FIELD: Final = "allowed_models"
NUMBER_FIELDS: Final = {
    "max_sessions": "sessions",
    "max_tokens_per_day": "tokens_per_day",
    "max_documents": "documents",
    "max_storage_bytes": "storage_bytes",
    "max_concurrent_turns": "concurrent_turns",
    "max_cost_micro_usd_per_day": "cost_micro_usd_per_day",
}
"""Names of limits on the wire, and in the domain."""
FIELDS: Final = {**NUMBER_FIELDS, MODELS_FIELD: "models"}
_USE_FIELDS: Final = {
    **NUMBER_FIELDS,
    "max_tokens_per_day": "tokens_today",
    "max_cost_micro_usd_per_day": "cost_micro_usd_today",
}


def agreed_from(message: tenant_pb2.AgreedQuota, field: str) -> Agreed:
    """Return agreed limits. Raises: InvalidArgument naming the field below `field`."""
    numbers: dict[str, int] = {}
    for descriptor, value in message.ListFields():
        ours = NUMBER_FIELDS.get(descriptor.name)
        if ours is None:
            continue
        if value < 0:
            raise invalid(f"{field}.{descriptor.name}", "must not be negative; 0 means no limit")
        numbers[ours] = value
    models: tuple[str, ...] | None = None
    if message.HasField("allowed_models"):
        models = _models(message.allowed_models, f"{field}.{MODELS_FIELD}.names")
    return Agreed(**numbers, models=models)


def agreed_message(agreed: Agreed) -> tenant_pb2.AgreedQuota | None:
    """Return agreed limits as the wire shows them; None when nothing is agreed."""
    if agreed == NOTHING_AGREED:
        return None
    message = tenant_pb2.AgreedQuota()
    for name, ours in NUMBER_FIELDS.items():
        value = getattr(agreed, ours)
        if value is not None:
            setattr(message, name, value)
    if agreed.models is not None:
        message.allowed_models.SetInParent()
        message.allowed_models.names.extend(agreed.models)
    return message


def limits_message(limits: Limits) -> tenant_pb2.Quota:
    """Return limits as the wire shows them."""
    message = tenant_pb2.Quota(allowed_models=limits.models)
    for name, ours in NUMBER_FIELDS.items():
        setattr(message, name, getattr(limits, ours))
    return message


def used_message(used: Use) -> tenant_pb2.Quota:
    """Return what is used as the wire shows it; what is not known is 0, and in `unknown`."""
    message = tenant_pb2.Quota()
    for name, ours in _USE_FIELDS.items():
        setattr(message, name, getattr(used, ours) or 0)
    return message


def unknown(used: Use) -> list[str]:
    """Return the names on the wire of what is not known."""
    return [name for name, ours in _USE_FIELDS.items() if getattr(used, ours) is None]


def _models(message: tenant_pb2.ModelNames, field: str) -> tuple[str, ...]:
    if len(message.names) > plans.MAX_MODELS:
        raise invalid(field, f"must be at most {plans.MAX_MODELS}")
    for index, name in enumerate(message.names):
        if not plans.MODEL_NAME.fullmatch(name):
            raise invalid(f"{field}[{index}]", plans.MODEL_NAME_RULE)
    return tuple(dict.fromkeys(name.lower() for name in message.names))
