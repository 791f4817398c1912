"""Peer: the usual design in Python. aiohttp, json, and a queue with a writer task for each client.

It does the same work as the server in its basic form (topics over REST; subscribe, publish, acknowledgement and event)
and nothing else: no history, no heartbeat, no limits.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiohttp import WSMsgType, web

QUEUE_SIZE = 1000
"""More than the benchmark has in flight: a burst is read at once, and a queue of 100 would lose a part of it."""

Queue = asyncio.Queue[str]
Subscribers = dict[int, Queue]


class Topics:
    """The topics, their subscribers and the number of their messages."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.subscribers: defaultdict[str, Subscribers] = defaultdict(dict)
        self.published: defaultdict[str, int] = defaultdict(int)

    def publish(self, topic: str, message: dict[str, Any]) -> None:
        self.published[topic] += 1
        event = {"type": "event", "topic": topic, "message": message, "seq": self.published[topic], "ts": timestamp()}
        text = encode(event)
        for queue in self.subscribers[topic].values():
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(text)

    def forget(self, queue: Queue) -> None:
        for subscribers in self.subscribers.values():
            subscribers.pop(id(queue), None)


TOPICS = web.AppKey("topics", Topics)


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode(message: dict[str, Any]) -> str:
    """Encode without the blanks of json's default, so that an event is as long as those of the other peers."""
    return json.dumps(message, separators=(",", ":"))


async def create_topic(request: web.Request) -> web.Response:
    name = (await request.json())["name"]
    request.app[TOPICS].names.add(name)
    return web.json_response({"status": "created", "topic": name}, status=201)


def answer(topics: Topics, queue: Queue, request: dict[str, Any]) -> str:
    topic = request["topic"]
    if topic not in topics.names:
        return encode({"type": "error", "error": {"code": "TOPIC_NOT_FOUND", "message": topic}, "ts": timestamp()})
    if request["type"] == "subscribe":
        topics.subscribers[topic][id(queue)] = queue
    else:
        topics.publish(topic, request["message"])
    ack = {"type": "ack", "request_id": request.get("request_id"), "topic": topic, "status": "ok", "ts": timestamp()}
    return encode(ack)


async def write_queued(queue: Queue, socket: web.WebSocketResponse) -> None:
    while True:
        await socket.send_str(await queue.get())


@contextmanager
def writer(socket: web.WebSocketResponse) -> Iterator[Queue]:
    queue: Queue = asyncio.Queue(QUEUE_SIZE)
    task = asyncio.create_task(write_queued(queue, socket))
    try:
        yield queue
    finally:
        task.cancel()


async def serve_client(request: web.Request) -> web.WebSocketResponse:
    topics = request.app[TOPICS]
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    with writer(socket) as queue:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await queue.put(answer(topics, queue, json.loads(message.data)))
        topics.forget(queue)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[TOPICS] = Topics()
    app.add_routes([web.post("/topics", create_topic), web.get("/ws", serve_client)])
    return app


if __name__ == "__main__":
    port = int(sys.argv[1])
    loop = uvloop.new_event_loop()
    web.run_app(create_app(), host="127.0.0.1", port=port, backlog=4096, access_log=None, print=None, loop=loop)
