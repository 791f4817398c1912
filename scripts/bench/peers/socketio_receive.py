"""Peer: the client of python-socketio, with its own server. It prints the seconds and CPU seconds of the receiver.

    python socketio_receive.py publish|receive PORT EVENTS

In the role ``publish`` it is a server that sends the events to each client that asks for them, as fast as it can.
"""
# Its packages are in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import asyncio
import json
import sys
import time

import socketio
import uvloop
from aiohttp import web

PAYLOAD = {"order_id": "ORD-123", "amount": 99.5, "currency": "USD", "lines": [{"sku": "a", "n": 1}], "note": "x" * 120}
BATCH = 100


async def publish(port: int, events: int) -> None:
    server = socketio.AsyncServer(async_mode="aiohttp")

    async def begin(client: str, _: object) -> None:
        for number in range(events):
            await server.emit("event", {"id": "550e8400-e29b-41d4-a716-446655440000", "payload": PAYLOAD}, room=client)
            if number % BATCH == 0:
                await asyncio.sleep(0)

    server.on("begin", begin)
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def receive(port: int, events: int) -> None:
    client = socketio.AsyncClient()
    count, began, cpu = 0, 0.0, 0.0
    done = asyncio.Event()

    def take(_: object) -> None:
        nonlocal count, began, cpu
        if not count:
            began, cpu = time.perf_counter(), time.process_time()
        count += 1
        if count == events:
            done.set()

    client.on("event", take)
    await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"], retry=True)
    print(flush=True)
    await client.emit("begin", {})
    await done.wait()
    print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
    await client.disconnect()


if __name__ == "__main__":
    role = {"publish": publish, "receive": receive}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(role(int(sys.argv[2]), int(sys.argv[3])))
