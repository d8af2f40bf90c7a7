"""Parameters that many routes share."""

from typing import Annotated, Final

from fastapi import Header, Path, Query

API_PREFIX: Final = "/api/v1"

PageSize = Annotated[
    int | None, Query(ge=1, le=200, description="Rows wanted, 1 to 200. Absent: 50.")
]
PageToken = Annotated[
    str, Query(max_length=4096, description="The next_page_token of the previous answer.")
]
IdPath = Annotated[str, Path(min_length=1, max_length=64)]
NamePath = Annotated[str, Path(min_length=1, max_length=200)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=128,
        pattern=r"^[\x21-\x7e]*$",
        description="The same key and body again give the same answer, for 24 hours.",
    ),
]
