"""Doctor says whether the brokers answer, and what to do if they do not."""

from __future__ import annotations

import secrets

import pytest

from meshwright_cli.broker_checks import check_dispatch, check_events
from meshwright_common.settings import DispatchSettings, EventSettings
from meshwright_common.storage.embedded.process import free_port

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


async def test_brokers_that_answer_are_good(kafka_server: str, rabbitmq_server: str) -> None:
    prefix = f"doctor-{secrets.token_hex(4)}."
    events = await check_events(EventSettings(url=f"kafka://{kafka_server}", topic_prefix=prefix))
    dispatch = await check_dispatch(DispatchSettings(url=rabbitmq_server, prefix=prefix))
    assert (events.good, dispatch.good) == (True, True)
    assert "0 topics" in events.text


async def test_brokers_that_are_away_are_named_with_what_waits_for_them() -> None:
    port = free_port()
    events = await check_events(EventSettings(url=f"kafka://127.0.0.1:{port}"))
    dispatch = await check_dispatch(DispatchSettings(url=f"amqp://user:s3cret@127.0.0.1:{port}/"))
    assert "MESHWRIGHT_EVENTS__URL" in events.advice
    assert "MESHWRIGHT_DISPATCH__URL" in dispatch.advice
    assert "s3cret" not in dispatch.text
