"""What is measured on the way of an event."""

from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY

from meshwright_common.events import metrics
from meshwright_common.ids import new_id
from meshwright_common.telemetry import metric_names


def test_an_id_says_how_old_its_event_is() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)

    age = metrics.age_seconds(new_id(), later)

    assert age is not None
    assert 80 < age < 100
    assert metrics.age_seconds(new_id(), later - timedelta(days=1)) == 0.0


def test_ids_of_others_say_nothing() -> None:
    now = datetime.now(UTC)
    for foreign in ("", "an event", "c232ab00-9414-41ec-8b3a-4c2b1f5a1c1e", "zzzzzzzz-zzzz-7zzz"):
        assert metrics.age_seconds(foreign, now) is None


def test_the_first_dead_letter_is_one_more_than_none() -> None:
    """An increase from nothing would be none, and nobody would be told."""
    labels = {"consumer": "new-one", "topic": "usage.stats", "result": "buried"}
    name = f"{metric_names.CONSUMER_HANDLED}_total"
    assert REGISTRY.get_sample_value(name, labels) is None

    metrics.announce("new-one", "usage.stats")

    assert REGISTRY.get_sample_value(name, labels) == 0.0
