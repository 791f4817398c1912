"""Peer: websockets with its broadcast(). It forwards each text unchanged; no JSON, no topics."""
# Its package is in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def serve_client(client: ServerConnection) -> None:
    assert client.request is not None, "it is set before the handler is called"
    if client.request.path == "/sub":
        await subscribe(client)
    else:
        await publish_from(client)


async def subscribe(client: ServerConnection) -> None:
    subscribers.add(client)
    try:
        await client.send("ready")
        await client.wait_closed()
    finally:
        subscribers.discard(client)


async def publish_from(client: ServerConnection) -> None:
    async for text in client:
        broadcast(subscribers, text)
        await client.send("ok")


async def main() -> None:
    port = int(sys.argv[1])
    async with serve(serve_client, "127.0.0.1", port, compression=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
