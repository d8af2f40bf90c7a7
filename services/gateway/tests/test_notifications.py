"""Notifications: lists, marks, and a stream that outlives the calls it is made of."""

import asyncio

import pytest

from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceStub
from meshwright_common.errors import DeadlineExceeded, OutOfRange, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as, serving
from meshwright_common.testing.waiting import eventually
from meshwright_gateway.http.notification_feed import NotificationFeed
from services.gateway.tests.events import parse, read_events
from services.gateway.tests.peers import Peers
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

PATH = "/api/v1/notifications"
STREAM = f"{PATH}/stream"


async def test_notifications_are_listed_as_asked_for(platform: Platform) -> None:
    told = platform.peers.notifications.tell("It is done.")
    told.read_time.FromJsonString("2026-01-31T12:00:00Z")

    answer = await platform.get(f"{PATH}?unread_only=true&page_size=7&page_token=here")

    (request,) = platform.peers.notifications.requests
    assert request.unread_only
    assert (request.page.page_size, request.page.page_token) == (7, "here")
    content = await answer.json()
    (notification,) = content["notifications"]
    assert notification == {
        "notification_id": told.notification_id,
        "kind": "task.completed",
        "title": "It is done.",
        "resource": "task/1",
        "details": {"task_id": "1", "steps": 3},
        "for_administrators": False,
        "create_time": notification["create_time"],
        "read_time": "2026-01-31T12:00:00Z",
    }
    assert content["next_page_token"] == "more"


async def test_unread_notification_has_no_time_of_reading(platform: Platform) -> None:
    platform.peers.notifications.tell("It is done.")

    answer = await platform.get(PATH)

    assert (await answer.json())["notifications"][0]["read_time"] is None


async def test_notifications_are_marked_by_ids_or_by_time(platform: Platform) -> None:
    wanted = new_id()
    by_ids = await platform.post(f"{PATH}/read", {"notification_ids": [wanted]})
    by_time = await platform.post(f"{PATH}/read", {"until_time": "2026-01-31T12:00:00Z"})

    first, second = platform.peers.notifications.requests
    assert (list(first.notification_ids), first.HasField("until_time")) == ([wanted], False)
    assert (list(second.notification_ids), second.until_time.ToJsonString()) == (
        [],
        "2026-01-31T12:00:00Z",
    )
    assert (await by_ids.json(), await by_time.json()) == ({"marked_count": 2},) * 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": []}, "ids"),
        ({"notification_ids": "all"}, "notification_ids"),
        ({"notification_ids": [""]}, "notification_ids.0"),
        ({"notification_ids": ["x"] * 1001}, "notification_ids"),
        ({"until_time": "yesterday"}, "until_time"),
        ({"until_time": "2026-01-31T12:00:00"}, "until_time"),
    ],
)
async def test_wrong_body_is_refused_by_name(
    platform: Platform, body: dict[str, object], field: str
) -> None:
    answer = await platform.post(f"{PATH}/read", body)

    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert [error["field"] for error in (await answer.json())["errors"]] == [field]
    assert platform.peers.notifications.requests == []


@pytest.mark.parametrize("error", [DeadlineExceeded("too long"), Unavailable("restarting")])
async def test_stream_goes_on_when_its_call_ends(platform: Platform, error: ServiceError) -> None:
    """Each once: the next call begins after the last one that was sent."""
    notifications = platform.peers.notifications
    first, second = notifications.tell("first"), notifications.tell("second")
    notifications.breaks = [error]

    answer = await platform.http.get(platform.url + STREAM, headers=platform.headers)
    events = read_events(answer)
    seen = [await anext(events), await anext(events)]

    assert answer.content_type == "text/event-stream"
    assert [event.name for event in seen] == ["notification", "notification"]
    assert [event.id for event in seen] == [first.notification_id, second.notification_id]
    assert [event.data["title"] for event in seen] == ["first", "second"]
    assert seen[0].data["details"] == {"task_id": "1", "steps": 3}
    assert [request.after_id for request in notifications.requests] == ["", first.notification_id]
    answer.close()
    await eventually(lambda: notifications.watching == 0)


@pytest.mark.parametrize("error", [DeadlineExceeded("too long"), Unavailable("away")])
async def test_notifications_that_cannot_be_followed_are_given_up(error: ServiceError) -> None:
    """A service that stays away ends the stream with its error, after some attempts."""
    peers = Peers()
    peers.notifications.tell("first")
    peers.notifications.breaks = [error]
    async with serving(peers.register) as served:
        stub = NotificationServiceStub(served.channels().open("session"))
        feed = NotificationFeed(stub, pauses_seconds=(0.001, 0.001))
        with calling_as(new_id(), "tenant:read"):
            following = feed.notifications()
            seen = await anext(following)
            peers.notifications.refusal = error
            with pytest.raises(type(error)):
                await anext(following)

    assert seen.title == "first"
    assert len(peers.notifications.requests) == 3


async def test_stream_that_cannot_begin_is_a_problem(platform: Platform) -> None:
    platform.peers.notifications.refusal = Unavailable("the database is away")

    answer = await platform.get(STREAM)

    assert (answer.status, answer.content_type) == (503, "application/problem+json")


@pytest.mark.parametrize("by", ["header", "query"])
async def test_stream_is_resumed_after_the_event_seen_last(platform: Platform, by: str) -> None:
    notifications = platform.peers.notifications
    first, second = notifications.tell("first"), notifications.tell("second")
    last = first.notification_id
    headers = {"last-event-id": last} if by == "header" else {}
    query = f"?last_event_id={last}" if by == "query" else ""

    answer = await platform.http.get(
        f"{platform.url}{STREAM}{query}", headers=platform.headers | headers
    )
    event = await anext(read_events(answer))
    answer.close()

    assert event.id == second.notification_id
    assert notifications.requests[0].after_id == last


async def test_quiet_stream_opens_and_ends_with_its_client(platform: Platform) -> None:
    notifications = platform.peers.notifications
    async with asyncio.timeout(20):
        answer = await platform.http.get(platform.url + STREAM, headers=platform.headers)
    assert (answer.status, notifications.watching) == (200, 1)

    answer.close()

    await eventually(lambda: notifications.watching == 0)
    await eventually(lambda: platform.gateway.answers.count == 0)


async def test_shutdown_does_not_wait_for_a_stream_without_end(platform: Platform) -> None:
    """Its client reads why, and connects again elsewhere."""
    answer = await platform.http.get(platform.url + STREAM, headers=platform.headers)
    app = platform.gateway.app(platform.settings)
    assert app.drain is not None

    async with asyncio.timeout(platform.settings.drain_seconds / 4):
        await app.drain()

    [last] = parse((await answer.read()).decode())
    assert (last.name, last.data["code"]) == ("error", "UNAVAILABLE")


async def test_event_id_that_is_none_is_gone(platform: Platform) -> None:
    answer = await platform.get(STREAM, last_event_id="yesterday")

    assert (answer.status, (await answer.json())["code"]) == (410, "CURSOR_EXPIRED")
    assert platform.peers.notifications.requests == []


async def test_event_id_that_was_dropped_is_gone(platform: Platform) -> None:
    notifications = platform.peers.notifications
    notifications.tell("first")
    gone = OutOfRange("there is no such notification")
    gone.reason = "CURSOR_EXPIRED"
    notifications.refusal = gone

    answer = await platform.get(STREAM, last_event_id=new_id())

    assert (answer.status, (await answer.json())["code"]) == (410, "CURSOR_EXPIRED")


async def test_parameter_that_the_stream_does_not_have_is_refused(platform: Platform) -> None:
    answer = await platform.get(f"{STREAM}?page_token=x")

    assert answer.status == 422
    assert [error["field"] for error in (await answer.json())["errors"]] == ["page_token"]
