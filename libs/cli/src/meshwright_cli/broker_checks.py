"""What `meshwright doctor` looks at of the brokers, where the settings name some."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from urllib.parse import urlsplit

from meshwright_cli.checks import TIMEOUT_SECONDS, Finding
from meshwright_cli.environment import PlatformSettings
from meshwright_common.dispatch.backbone import EMBEDDED
from meshwright_common.errors import ServiceError
from meshwright_common.events.backbone import is_relayed
from meshwright_common.events.inspection_kafka import KafkaInspection
from meshwright_common.settings import DispatchSettings, EventSettings, SettingsError, load

LOOK_SECONDS: Final = 3 * TIMEOUT_SECONDS
"""For all topics of a cluster that answers."""


async def check_brokers() -> list[Finding]:
    """Ask Kafka for its topics and RabbitMQ for its queues, if the settings name them."""
    try:
        settings = load(PlatformSettings)
    except SettingsError:
        return []  # said by check_settings
    findings = []
    if is_relayed(settings.events):
        findings.append(await check_events(settings.events))
    if settings.dispatch.url != EMBEDDED:
        findings.append(await check_dispatch(settings.dispatch))
    return findings


async def check_events(settings: EventSettings) -> Finding:
    """Count the topics of ours that Kafka has, and what is in them."""
    advice = "mend MESHWRIGHT_EVENTS__URL, or start Kafka; events wait in PostgreSQL until then"
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            topics = await KafkaInspection(settings).topics()
    except TimeoutError:
        return Finding("events", f"Kafka does not answer within {LOOK_SECONDS:g} s", advice)
    except (ServiceError, SettingsError) as error:
        return Finding("events", str(error), advice)
    there = [one for one in topics if one.partitions]
    events = sum(one.events for one in there)
    return Finding("events", f"Kafka answers, {len(there)} topics with {events} events")


async def check_dispatch(settings: DispatchSettings) -> Finding:
    """Log in to RabbitMQ and see that what we declare there is what it has."""
    # Imported only when asked for: the driver costs 100 ms.
    from meshwright_common.dispatch.rabbitmq_link import Link  # noqa: PLC0415
    from meshwright_common.dispatch.rabbitmq_topology import Topology  # noqa: PLC0415

    advice = "mend MESHWRIGHT_DISPATCH__URL, or start RabbitMQ; accepted tasks wait until then"
    link = Link(settings.url, Topology(settings.prefix, ()), name="meshwright-doctor")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await link.probe()
    except TimeoutError:
        return Finding("dispatch", f"RabbitMQ does not answer within {TIMEOUT_SECONDS:g} s", advice)
    except ServiceError as error:
        return Finding("dispatch", str(error), advice)
    finally:
        await link.close()
    return Finding("dispatch", f"RabbitMQ answers at {urlsplit(settings.url).hostname}")
