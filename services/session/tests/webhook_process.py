"""A process that sends webhooks, to be killed: python -m … DATABASE_URL ALLOWED_HOST."""

import asyncio
import sys

from meshwright_common.egress import EgressSettings, open_egress
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.patience import patient_database
from meshwright_session.webhook_parts import webhook_parts
from meshwright_session.webhook_settings import WebhookSection


async def send(url: str, host: str) -> None:
    """Send what is due on a database to one host, for ever."""
    section = WebhookSection(
        egress=EgressSettings(allowed_hosts=(host,)), allow_http=True, look_seconds=0.05
    )
    async with (
        open_database(patient_database(url), "session") as database,
        open_egress(section.egress) as egress,
    ):
        await webhook_parts(section, database, key_ring(database), egress).worker.run()


if __name__ == "__main__":
    asyncio.run(send(*sys.argv[1:]))
