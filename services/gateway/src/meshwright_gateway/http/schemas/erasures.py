"""Bodies of erasures."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Input, JsonObject, Listing, Output


class TenantErasure(Input):
    """Erase the caller's tenant with all that belongs to it, for good."""

    confirm_slug: str = Field(
        min_length=1, max_length=64, description="The tenant's slug, written out."
    )


class StoreReport(Output):
    """What was found in one store."""

    service: str
    store: str
    removed_count: int = Field(description="Removed or made anonymous so far.")
    remaining_count: int = Field(description="What the last look still found.")


class Erasure(Output):
    """An erasure: how far it is, and in the end its signed receipt."""

    erasure_id: str
    kind: Literal["user", "tenant", "unspecified"]
    subject_id: str = Field(description="User or tenant.")
    state: Literal["erasing", "settling", "completed", "unspecified"] = Field(
        description=(
            "`settling`: nothing is left; it is looked again when whatever was under way has ended."
        )
    )
    requested_by: str
    keep_documents: bool
    create_time: datetime
    due_time: datetime | None = Field(description="When it is gone on with. Null when completed.")
    complete_time: datetime | None
    last_error: str = Field(description="Which service did not answer the last time, and how.")
    stores: list[StoreReport] = Field(description="Empty in lists.")
    receipt: JsonObject | None = Field(
        description="Data of the event erasure.completed, with their signature. Null before."
    )


class ErasureList(Listing):
    """Erasures, newest first, without their stores."""

    erasures: list[Erasure]
