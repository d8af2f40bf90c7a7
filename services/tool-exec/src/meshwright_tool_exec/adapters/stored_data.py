"""Everything that this service keeps of people."""

from meshwright_common.erasure.rows import StoredRows
from meshwright_common.erasure.stored import StoredData
from meshwright_common.storage.postgres import Database


def stored_data(database: Database) -> tuple[StoredData, ...]:
    """Return the stores."""
    return (
        StoredRows(database, "tool_exec.calls", "subject = $2"),
        # Nobody's in particular: a tenant has them.
        StoredRows(database, "tool_exec.mcp_servers"),
    )
