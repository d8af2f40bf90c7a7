"""Requests with an id: what the first one made is what a repeated one gets.

A mutation with a request id inserts its row into `requests` in its own statement, `ON CONFLICT DO
NOTHING`, and goes on only if the row is new. Two at once take turns at the unique key. The loser's
next statement sees what the winner made, and that is what `made_before` reads.
"""

from typing import Final

from meshwright_common.storage.postgres import Connection, TransactionConflict
from meshwright_session.domain.errors import IdempotencyKeyReused
from meshwright_session.domain.models import Request

ANONYMOUS: Final = Request(subject="", request_id="", digest=b"")
"""Stands for no request id: statements store no row for an empty one."""


async def made_before(
    connection: Connection, tenant_id: str, operation: str, request: Request
) -> list[str]:
    """Return the ids that the first request made.

    Raises: IdempotencyKeyReused when the first one had another body; TransactionConflict when its
    record was dropped for its age this very moment: the repeated call is then a first one.
    """
    row = await connection.fetchrow(
        _FIND, tenant_id, request.subject, operation, request.request_id
    )
    if row is None:
        raise TransactionConflict("The request's record expired just now.")
    if row["digest"] != request.digest:
        raise IdempotencyKeyReused
    return list(row["made"])


async def forget(connection: Connection, tenant_id: str, operation: str, request: Request) -> None:
    """Let the same request be a first one again: it made nothing."""
    await connection.execute(_FORGET, tenant_id, request.subject, operation, request.request_id)


_FORGET: Final = """
DELETE FROM requests
 WHERE tenant_id = $1 AND subject = $2 AND operation = $3 AND request_id = $4
"""

_FIND: Final = """
SELECT digest, made FROM requests
 WHERE tenant_id = $1 AND subject = $2 AND operation = $3 AND request_id = $4
"""
