"""Everything that this service keeps of people."""

from typing import Final

from meshwright_common.erasure.rows import AnonymousRows
from meshwright_common.erasure.stored import StoredData
from meshwright_common.storage.postgres import Database

NOBODY: Final = "erased"
"""The user of what erased users consumed, as in session's ledger, which these rows explain."""


def stored_data(database: Database) -> tuple[StoredData, ...]:
    """Return the stores. Amounts stay for the bill when their user goes."""
    nobody = f"user_id = '{NOBODY}', session_id = ''"
    return (AnonymousRows(database, "model_router.model_usage", "user_id = $2", nobody),)
