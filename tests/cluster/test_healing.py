"""Presence of two servers on a real Redis that cuts their connections off again and again: in the end both know all."""

from __future__ import annotations

import asyncio
import contextlib
import random

import aiohttp
import pytest

from pubsub.http.app_keys import BROKER
from tests.harness import Server, eventually, run_server
from tests.redis.driver import prefixes
from tests.redis.programs import RedisServer

pytestmark = [pytest.mark.asyncio(loop_factories=["uvloop"]), pytest.mark.usefixtures("short_waits")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life that show soon what was lost; nobody is dead."""
    for name, seconds in {"BEAT": 0.2, "CHECK": 0.1, "CUT_OFF": 1.0, "DEAD": 60.0}.items():
        monkeypatch.setattr(f"pubsub.cluster.members.{name}", seconds)
    monkeypatch.setattr("pubsub.cluster.copies.PATIENCE", 0.1)
    monkeypatch.setattr("pubsub.core.presence.AWAY", 0.1)


def present(server: Server) -> dict[str, int]:
    return {each.client_id: each.connections for each in server.app[BROKER].presence("room").clients}


def cut_all(redis_server: RedisServer) -> None:
    with redis_server.admin as admin:
        for kind in ("normal", "pubsub"):
            admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def test_presence_heals_after_lost_connections(redis_server: RedisServer, quick: None) -> None:
    url = redis_server.url(f"healing-{next(prefixes)}")
    chance = random.Random(7)
    async with run_server(journal_url=url) as one, run_server(journal_url=url) as other:
        await one.create("room", presence=True)
        async with contextlib.AsyncExitStack() as stack:
            there: list[tuple[str, aiohttp.ClientWebSocketResponse]] = []
            for step in range(60):
                if chance.random() < 0.6 or not there:
                    server, name = chance.choice((one, other)), f"c{chance.randrange(10)}"
                    client = await stack.enter_async_context(server.client(name))
                    await client.subscribe("room", client_id=name)
                    there.append((name, client.websocket))
                else:
                    await there.pop(chance.randrange(len(there)))[1].close()
                if step % 6 == 0:
                    await asyncio.to_thread(cut_all, redis_server)
            names = [name for name, _ in there]
            expected = {name: names.count(name) for name in sorted(names)}
            await eventually(lambda: present(one) == present(other) == expected)
