"""Three sensors that send 20 readings a second each, to topics that keep only the latest one."""

from __future__ import annotations

import asyncio
import os
import random

from pubsub.client import Client

SERVER = os.environ.get("PUBSUB_URL", "http://localhost:8080")
PERIOD_SEC = 0.05


async def run(client: Client, name: str, value: float, step: float) -> None:
    while True:
        value += random.uniform(-step, step)
        await client.publish(f"sensors.{name}", {"value": round(value, 2)}, ttl_sec=10)
        await asyncio.sleep(PERIOD_SEC)


async def main() -> None:
    async with Client(SERVER, client_id="sensors", connect_timeout=None) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(run(client, "boiler", 61.0, 0.4))
        tasks.create_task(run(client, "cellar", 12.0, 0.05))
        tasks.create_task(run(client, "wind", 7.0, 0.9))


if __name__ == "__main__":
    asyncio.run(main())
