"""Peer: nats-py. It publishes or receives events of the same size; the receiver prints its seconds and CPU seconds.

    python nats_receive.py publish|receive PORT EVENTS

The receiver prints a line once it has subscribed. It decodes each payload, as a program does that uses it.
"""
# Its packages are in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import asyncio
import json
import sys
import time

import msgspec
import nats
import uvloop

PAYLOAD = {"order_id": "ORD-123", "amount": 99.5, "currency": "USD", "lines": [{"sku": "a", "n": 1}], "note": "x" * 120}
SUBJECT = "orders"
BATCH = 1000


async def publish(port: int, events: int) -> None:
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    text = json.dumps(
        {"id": "550e8400-e29b-41d4-a716-446655440000", "payload": PAYLOAD}, separators=(",", ":")
    ).encode()
    for number in range(events):
        await connection.publish(SUBJECT, text)
        if number % BATCH == 0:
            await connection.flush()
    await connection.close()


async def receive(port: int, events: int) -> None:
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    subscription = await connection.subscribe(SUBJECT, pending_msgs_limit=events, pending_bytes_limit=-1)
    await connection.flush()
    print(flush=True)
    count, began, cpu = 0, 0.0, 0.0
    async for message in subscription.messages:
        if not count:
            began, cpu = time.perf_counter(), time.process_time()
        msgspec.json.decode(message.data)
        count += 1
        if count == events:
            break
    print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
    await connection.close()


if __name__ == "__main__":
    role = {"publish": publish, "receive": receive}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(role(int(sys.argv[2]), int(sys.argv[3])))
