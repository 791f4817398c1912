"""Peer: python-socketio on aiohttp with its Redis manager: a room reaches all servers.

python socketio_cluster.py PORT PORT_OF_REDIS
"""
# Its packages are in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import sys

import socketio
import uvloop
from aiohttp import web

server = socketio.AsyncServer(
    async_mode="aiohttp", client_manager=socketio.AsyncRedisManager(f"redis://127.0.0.1:{sys.argv[2]}")
)


async def subscribe(client: str, _payload: object) -> str:
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
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)
