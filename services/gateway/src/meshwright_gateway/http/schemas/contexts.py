"""Bodies about contexts of sessions and their versions."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Input,
    JsonObject,
    JsonObjectInput,
    Listing,
    OptionalMoment,
    Output,
)

Version = Annotated[int, Field(ge=0, lt=1 << 62)]


class ContextWrite(Input):
    """The context's next version."""

    data: JsonObjectInput = Field(description="Replaces what was there; at most 256 KiB as JSON.")
    expected_version: Version | None = Field(
        default=None,
        description="The version you have read; 0 before the first write. May be given as If-Match"
        " instead.",
    )


class ContextRestore(Input):
    """Which version comes back."""

    version: Version = Field(description="A version that is kept: see the list of snapshots.")


class Context(Output):
    """What agents remember of a session between turns."""

    session_id: str
    version: int = Field(description="0 before the first write, then 1, 2, 3 … without gaps.")
    data: JsonObject
    update_time: OptionalMoment = Field(description="Null at version 0.")


class ContextSnapshot(Output):
    """A version that can be restored, and compared with others."""

    version: int = Field(
        description="Later ones that are not listed have the same data, or are not kept."
    )
    create_time: datetime
    size_bytes: int = Field(description="As stored: compressed.")


class ContextSnapshotList(Listing):
    """Snapshots, newest first."""

    snapshots: list[ContextSnapshot]


class ContextDiff(Output):
    """What leads from one version to another."""

    from_version: int
    to_version: int
    patch: list[JsonObject] = Field(description="A JSON Patch (RFC 6902).")
