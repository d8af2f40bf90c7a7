"""A process that seals anew, to be killed: one row a transaction, and it says how many are done.

python -m libs.common.tests.encryption.resealing_process DATABASE_URL TENANT
"""

from __future__ import annotations

import asyncio
import sys

from meshwright_common.encryption.resealing import reseal
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.patience import patient_database


async def main(url: str, tenant_id: str) -> None:
    """Seal anew what older keys have sealed."""
    async with open_operator_database(patient_database(url)) as database:
        await reseal(
            *(database, key_ring(database), tenant_id),
            page=1,
            tell=lambda rows: print(rows, flush=True),
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
