"""The floor of a server that receives from Redis: a process that wakes up for each push, and does nothing with it.

    python redis_listener.py PORT_OF_REDIS PORT

It listens on PORT once it is subscribed.
"""

import asyncio
import sys
from typing import Any

import uvloop


class Listener(asyncio.Protocol):
    """Subscribed with the first answer."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        transport.write(b"SUBSCRIBE bench\r\n")

    def data_received(self, data: bytes) -> None:
        self.subscribed.set()


async def listen(redis: int, port: int) -> None:
    loop = asyncio.get_running_loop()
    _, listener = await loop.create_connection(Listener, "127.0.0.1", redis)
    await listener.subscribed.wait()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(listen(int(sys.argv[1]), int(sys.argv[2])))
