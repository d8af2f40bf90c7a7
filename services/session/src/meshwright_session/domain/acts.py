"""What this service itself reports to the audit log, with the change that it is about."""

from dataclasses import dataclass, field

from meshwright_session.domain.models import JsonObject


@dataclass(frozen=True, slots=True)
class Act:
    """A security-relevant act of the current caller, allowed and done.

    A store writes it in the transaction that does it, or not at all. `details` never hold content
    or secrets.
    """

    action: str
    resource: str
    details: JsonObject = field(default_factory=dict)
