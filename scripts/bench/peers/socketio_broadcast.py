"""Peer: python-socketio on aiohttp, one room; it decodes and encodes the JSON of every event.

    python socketio_broadcast.py PORT [PORT_OF_REDIS]

With Redis, the room reaches all servers.
"""
# Its package is in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import sys

import socketio
import uvloop
from aiohttp import web

manager = socketio.AsyncRedisManager(f"redis://127.0.0.1:{sys.argv[2]}") if len(sys.argv) > 2 else None
server = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)


async def subscribe(client: str) -> str:
    await server.enter_room(client, "bench")
    return "ready"


async def publish(_client: str, payload: object) -> str:
    await server.emit("event", payload, room="bench")
    return "ok"


if __name__ == "__main__":
    server.on("subscribe", subscribe)
    server.on("publish", publish)
    app = web.Application()
    server.attach(app)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, access_log=None, print=None, loop=loop)
