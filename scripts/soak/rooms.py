"""Topics that come and go, with lists of messages by REST."""

from __future__ import annotations

import asyncio
from random import Random

import aiohttp
from kinds import KINDS
from victim import Victim

ROOMS = 4
LISTS = 5  # for each life of a room: all messages fit into its ring, so that no gap is told


class Rooms:
    """See the module. ``published``: messages. ``faults``: answers that must not come."""

    def __init__(self, victim: Victim, random: Random) -> None:
        self._victim = victim
        self._random = random
        self._resting = asyncio.Event()
        self.published = 0
        self.faults: list[str] = []

    async def keep(self, running: asyncio.Event) -> None:
        """Make rooms, publish to them and delete them while ``running`` is set, until cancelled."""
        while True:
            self._resting.set()
            await running.wait()
            self._resting.clear()
            try:
                await self._use(f"room.{self._random.randrange(ROOMS)}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.2)  # the server restarts

    async def rest(self) -> None:
        """Wait until no request is under way, once ``running`` is clear."""
        await self._resting.wait()

    async def _use(self, room: str) -> None:
        status, _ = await self._victim.ask("POST", "/topics", {"name": room})
        self._expect(status, (201, 409), f"creation of {room}")
        seq = 0
        for _ in range(LISTS if status == 201 else 0):
            await asyncio.sleep(self._random.uniform(0, 0.3))
            seq = await self._publish(room, seq)
        status, _ = await self._victim.ask("DELETE", f"/topics/{room}")
        self._expect(status, (200, 404), f"deletion of {room}")

    async def _publish(self, room: str, seq: int) -> int:
        """Publish a list if the room has this ``seq``; nobody else publishes there. Returns its new ``seq``."""
        count = self._random.choice([1, 3, 15])
        messages = [{"payload": {"kind": self._random.choice(KINDS)}} for _ in range(count)]
        status, answer = await self._victim.ask(
            "POST", f"/topics/{room}/messages", [messages[0] | {"expect_seq": seq}, *messages[1:]]
        )
        self._expect(status, (200, 404), f"{count} messages for {room} at {seq}: {answer}")
        if status == 200 and answer["seq"] != list(range(seq + 1, seq + count + 1)):
            self.faults.append(f"{count} messages for {room} at {seq} got {answer}")
        self.published += count * (status == 200)
        return seq + count

    def _expect(self, status: int, expected: tuple[int, ...], told: str) -> None:
        if status not in expected:
            self.faults.append(f"{told}: {status}")
