"""What conversations do: start turns and tasks and follow them, answer questions, cancel."""

from collections.abc import Mapping
from contextlib import aclosing

from meshwright.chat.v1 import chat_service_pb2
from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright_common.errors import InvalidArgument, Unavailable
from meshwright_common.ids import new_id, parse_id
from meshwright_gateway.http import sse
from meshwright_gateway.http.json_body import Json
from meshwright_gateway.http.notification_feed import NotificationFeed
from meshwright_gateway.http.schemas.conversation import ChatRequest
from meshwright_gateway.http.schemas.work import ExecuteRequest
from meshwright_gateway.http.task_feed import TaskFeed, WatchFeed
from meshwright_gateway.http.turn_feed import TurnFeed
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.websocket import messages
from meshwright_gateway.websocket.admission import Admission, Place
from meshwright_gateway.websocket.conversation import Conversation
from meshwright_gateway.websocket.wire import SocketWire
from meshwright_gateway.wire import values
from meshwright_gateway.wire.conversation import chat_request, turn_view
from meshwright_gateway.wire.interrupts import renamed
from meshwright_gateway.wire.work import execute_request, task_view

Rest = Mapping[str, Json]


class Streams:
    """Does what the messages of one socket ask for.

    Every method sends all of a conversation but an error. Raises: ServiceError; ClientGone.
    """

    def __init__(self, peers: Peers, wire: SocketWire, admission: Admission) -> None:
        self._peers = peers
        self._wire = wire
        self._admission = admission

    async def chat(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Start a turn and follow it."""
        body = validated(ChatRequest, rest)
        feed = TurnFeed(self._peers.chat, start=chat_request(body, key))
        async with self._admission.of("POST", "/api/v1/chat") as place:
            await self._follow_turn(conversation, feed, place)
        if not feed.turn_id:
            raise Unavailable("the turn gave no event")
        await self._end(conversation)

    async def task(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Start a task and follow it."""
        body = validated(ExecuteRequest, rest)
        feed = TaskFeed(self._peers.agents, execute_request(body, key or new_id()))
        async with self._admission.of("POST", "/api/v1/agents/execute") as place:
            await self._follow_task(conversation, feed, place)
        if not feed.task_id:
            raise Unavailable("the task gave no event")
        await self._end(conversation)

    async def resume(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Follow a turn or a task after an event."""
        body = validated(messages.Resume, rest)
        if body.turn_id is not None:
            turn_id = parse_id(body.turn_id, "turn_id")
            conversation.follows("turn_id", turn_id, body.after)
            turn = TurnFeed(self._peers.chat, turn_id=turn_id, after_sequence=body.after)
            async with self._admission.of("GET", f"/api/v1/turns/{turn_id}/events") as place:
                # The next event may be days away.
                place.began()
                await self._follow_turn(conversation, turn, place)
        else:
            task_id = parse_id(body.task_id or "", "task_id")
            conversation.follows("task_id", task_id, body.after)
            task = WatchFeed(self._peers.agents, task_id, body.after)
            async with self._admission.of("GET", f"/api/v1/tasks/{task_id}/events") as place:
                # The next event may be days away.
                place.began()
                await self._follow_task(conversation, task, place)
        await self._end(conversation)

    async def notifications(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Follow what the caller is told, until the socket closes."""
        body = validated(messages.Notifications, rest)
        after_id = parse_id(body.after_id, "after_id") if body.after_id else ""
        feed = NotificationFeed(self._peers.notifications, after_id=after_id)
        async with (
            self._admission.of("GET", "/api/v1/notifications/stream") as place,
            aclosing(feed.notifications()) as notifications,
        ):
            # Nothing may come for hours.
            place.began()
            async for notification in notifications:
                await self._wire.send(messages.notification_message(conversation.id, notification))
                conversation.follows("after_id", notification.notification_id, 0)

    async def answer(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Answer what a task asks. The first answer counts."""
        body = validated(messages.Answer, rest)
        task_id = parse_id(body.task_id, "task_id")
        request = agent_service_pb2.ResumeTaskRequest(
            task_id=task_id,
            interrupt_id=body.interrupt_id,
            payload=values.struct_from(body.answer),
            request_id=key,
        )
        async with self._admission.of("POST", f"/api/v1/tasks/{task_id}/resume"):
            try:
                answer = await self._peers.agents.ResumeTask(request)
            except InvalidArgument as error:
                raise renamed(error) from error
        await self._end(conversation, task_view(answer.task).model_dump(mode="json"))

    async def cancel(self, conversation: Conversation, rest: Rest, key: str) -> None:
        """Stop a turn or a task: ended when nothing more of it can happen."""
        body = validated(messages.Cancel, rest)
        data: dict[str, object]
        if body.turn_id is not None:
            turn_id = parse_id(body.turn_id, "turn_id")
            async with self._admission.of("POST", f"/api/v1/turns/{turn_id}/cancel"):
                turn = await self._peers.chat.CancelTurn(
                    chat_service_pb2.CancelTurnRequest(turn_id=turn_id)
                )
            data = turn_view(turn.turn).model_dump(mode="json")
        else:
            task_id = parse_id(body.task_id or "", "task_id")
            async with self._admission.of("POST", f"/api/v1/tasks/{task_id}/cancel"):
                task = await self._peers.agents.CancelTask(
                    agent_service_pb2.CancelTaskRequest(task_id=task_id)
                )
            data = task_view(task.task).model_dump(mode="json")
        await self._end(conversation, data)

    async def _follow_turn(self, conversation: Conversation, feed: TurnFeed, place: Place) -> None:
        async with aclosing(feed.events()) as events:
            async for event in events:
                place.began()
                if event.WhichOneof("event") in sse.TURN_WAITS:
                    # It may take days: it keeps no place of its user's.
                    place.leave()
                if not conversation.subject_id:
                    conversation.follows("turn_id", event.turn_id, 0)
                await conversation.has_room()
                await self._wire.send(messages.turn_message(conversation.id, event))
                conversation.sent(event.sequence)

    async def _follow_task(
        self, conversation: Conversation, feed: TaskFeed | WatchFeed, place: Place
    ) -> None:
        async with aclosing(feed.events()) as events:
            async for event in events:
                place.began()
                if event.HasField("interrupt"):
                    place.leave()
                if not conversation.subject_id:
                    conversation.follows("task_id", event.task_id, 0)
                await conversation.has_room()
                for message in messages.task_messages(conversation.id, event):
                    await self._wire.send(message)
                conversation.sent(event.sequence)

    async def _end(
        self, conversation: Conversation, data: Mapping[str, object] | None = None
    ) -> None:
        await self._wire.send(messages.end_message(conversation.id, data))
