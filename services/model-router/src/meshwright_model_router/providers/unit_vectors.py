"""The check of a vector that came from outside."""

import math
from collections.abc import Sequence
from typing import Final

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol

UNIT_TOLERANCE: Final = 1e-3
"""A vector whose length is this near to 1 is passed on as it is."""


def unit_vector(endpoint: Endpoint, vector: Sequence[float], wanted: int) -> Sequence[float]:
    """Return the vector at unit length. Raises: ProviderProtocol unless it has `wanted` numbers."""
    if len(vector) != wanted:
        raise broken_protocol(
            endpoint,
            f"a vector of {len(vector)} numbers where {wanted} are expected; "
            "check embedding_dimensions",
        )
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise broken_protocol(endpoint, "a vector without a direction")
    if abs(length - 1) <= UNIT_TOLERANCE:
        return vector
    return [value / length for value in vector]
