"""Refused logins with keys that somebody has are counted for the audit log of the tenant."""

from meshwright_common.identity.denials import DenialKind, Denials
from meshwright_session.domain.directory_models import Credential


class CountedRefusals:
    """`RefusedKeys` that counts by key."""

    def __init__(self, denials: Denials) -> None:
        self._denials = denials

    def __call__(self, credential: Credential) -> None:
        self._denials.note(
            DenialKind(
                "login.refused",
                tenant_id=credential.tenant_id,
                actor=credential.user_id,
                resource=f"api_key/{credential.api_key_id}",
                reason="suspended" if credential.usable else "not usable",
            )
        )
