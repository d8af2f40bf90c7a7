"""Content sealed at rest: AES-256-GCM, a data key per tenant, wrapped by a master key.

async with open_key_ring(settings.encryption, database) as ring:
    keys = await ring.keys_of(tenant_id)
    sealed = keys.seal(Place("chat.turns", "content", turn_id), plain)
"""

from meshwright_common.encryption.key_ring import KeyRing, open_key_ring
from meshwright_common.encryption.sealed_json import SealedJson
from meshwright_common.encryption.tenant_keys import (
    DIGEST_OF_BEFORE,
    Place,
    SealBroken,
    TenantKeys,
)

__all__ = [
    "DIGEST_OF_BEFORE",
    "KeyRing",
    "Place",
    "SealBroken",
    "SealedJson",
    "TenantKeys",
    "open_key_ring",
]
