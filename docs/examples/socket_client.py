"""A conversation over the WebSocket: ask, approve what the agent asks, read on after a break.

Needs `websockets`. Run it as: URL=http://127.0.0.1:8080 KEY=mw_… python socket_client.py
"""

import asyncio
import json
import os
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = os.environ["URL"].replace("http", "ws", 1) + "/api/v1/ws"
HEADERS = {"authorization": f"Bearer {os.environ['KEY']}"}


async def main() -> None:
    """Print one turn to its end, over as many sockets as it takes."""
    question = {"type": "chat", "id": "c1", "agent": "clerk", "message": "What is 17*23+4?"}
    again: dict[str, Any] = question | {"idempotency_key": "my-question"}
    # Connects again by itself, after 1012 (the gateway restarts) as after a lost network.
    async for socket in connect(URL, additional_headers=HEADERS, proxy=None):
        try:
            await socket.send(json.dumps(again))
            async for text in socket:
                message = json.loads(text)
                print(json.dumps(message, ensure_ascii=False))
                if message["type"] in {"end", "error"} and message["id"] == "c1":
                    return
                if message["type"] == "event":
                    # The first event of a turn names it.
                    turn_id = message["data"].get("turn_id") or again["turn_id"]
                    after = message["sequence"]
                    again = {"type": "resume", "id": "c1", "turn_id": turn_id, "after": after}
                if message.get("event") == "interrupt":
                    asked = message["data"]
                    answer = {
                        "type": "answer",
                        "id": "a1",
                        "task_id": asked["task_id"],
                        "interrupt_id": asked["interrupt_id"],
                        "answer": {"approved": True},
                    }
                    await socket.send(json.dumps(answer))
        except ConnectionClosed:
            continue


asyncio.run(main())
