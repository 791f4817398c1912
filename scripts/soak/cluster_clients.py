"""The clients of a soak of several servers: those that stay at one server, and those that resume at another one.

All of them are judged against one Record, so that two servers that differ in a topic's order are found.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any

from clusters import TOPICS
from items import positions_of, take_item
from judge import Acked, Judge
from kinds import FILTERS, KINDS
from oracle import Json
from victim import until

from pubsub.client import AnswerTimeout, Client, Internal, PubsubError, Subscription, TopicNotFound

RATE = 25.0  # publishes a second of each publisher
IN_FLIGHT = 30  # publishes of one publisher
PRESENT = "room.present"


class ClusterClients:
    """See the module. ``urls``: of the servers."""

    def __init__(self, judge: Judge, urls: Sequence[str], random: Random) -> None:
        self._judge = judge
        self._urls = urls
        self._random = random
        self._publishing = asyncio.Event()
        self._idle = [asyncio.Event() for _ in urls]
        self._tasks: list[asyncio.Task[None]] = []
        self._exported: dict[str, dict[str, Json]] = {}  # the positions of those that change the server
        self.failures: list[str] = []  # of readers

    async def arrive(self) -> None:
        """Start all clients, and wait until all have subscribed; they publish after :meth:`resume`."""

        work = [self._wander("wanderer", ">"), self._wander("impatient", "keep.>", most=0.4)]
        for number in range(len(self._urls)):
            work += [
                self._stay(f"all-{number}", number, ">"),
                self._stay(f"durable-{number}", number, "keep.durable"),
                self._stay(f"short-{number}", number, "keep.short"),
                self._stay(f"some-{number}", number, "keep.*", FILTERS[1]),
                self._stay(f"present-{number}", number, PRESENT),
                self._publish(number),
            ]
        self._tasks = [asyncio.create_task(each) for each in work]
        for task in self._tasks:
            task.add_done_callback(self._note_end)
        await asyncio.gather(*(each.wait() for each in self._idle))
        if not await until(self._all_have_begun, 30):
            raise RuntimeError(f"not all clients could subscribe: {self.failures}")

    async def _all_have_begun(self) -> bool:
        return all(reading.cursors for reading in self._judge.readings.values())

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(repr(error))

    def resume(self) -> None:
        self._publishing.set()

    async def pause(self) -> None:
        """Publish no more, and wait for the outcome of every publish."""
        self._publishing.clear()
        await asyncio.gather(*(each.wait() for each in self._idle))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _client(self, name: str, url: str, **options: Any) -> Client:
        return Client(
            url, client_id=name, heartbeat=2, connect_timeout=None, answer_timeout=self._random.choice([3, 8]),
            **options,
        )  # fmt: skip

    # Subscribers

    async def _stay(self, name: str, server: int, topic: str, chosen: Json = FILTERS[0]) -> None:
        self._judge.new_reading(name, topic, chosen)
        async with self._client(name, self._urls[server]) as client:
            while True:
                async with self._subscribed(client, topic, **chosen) as events:
                    if events is None:
                        continue
                    self._judge.begin(name, positions_of(events.position))
                    async for item in events:
                        self._take(name, item, events)

    async def _wander(self, name: str, topic: str, most: float = 3.0) -> None:
        """Read for a while at one server, export the position, and go on from it at another one."""
        self._judge.new_reading(name, topic)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(2 + most), self._client(name, self._random.choice(self._urls)) as client:
                    await self._visit(name, client, topic, self._random.uniform(0, most))

    async def _visit(self, name: str, client: Client, topic: str, seconds: float) -> None:
        position = self._exported.get(name)
        options: dict[str, Any] = {} if position is None else {"resume": position}
        async with self._subscribed(client, topic, **options) as events:
            if events is None:
                return
            if position is None:
                self._judge.begin(name, positions_of(events.position))
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        async for item in events:
                            self._take(name, item, events)
            finally:
                self._judge.check_positions(name, positions_of(events.position))
                self._exported[name] = json.loads(json.dumps(exported_of(events)))

    @asynccontextmanager
    async def _subscribed(self, client: Client, topic: str, **options: Any) -> AsyncIterator[Subscription[Any] | None]:
        """Subscribe; gives None if the topic does not exist at the moment, or the engine was away for too long."""
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(client.subscribe(topic, **options))
            except (TopicNotFound, AnswerTimeout, Internal):
                await asyncio.sleep(0.1)
                yield None
            else:
                yield events

    def _take(self, name: str, item: object, events: Subscription[Any]) -> None:
        take_item(self._judge, name, item)
        if self._random.random() < 0.05:
            self._judge.check_positions(name, positions_of(events.position))

    # Publishers

    async def _publish(self, server: int) -> None:
        in_flight: set[asyncio.Task[None]] = set()
        async with self._client(f"publisher-{server}", self._urls[server], max_outgoing=IN_FLIGHT) as client:
            while True:
                if not self._publishing.is_set():
                    await asyncio.gather(*in_flight, return_exceptions=True)
                    self._idle[server].set()
                    await self._publishing.wait()
                    self._idle[server].clear()
                await asyncio.sleep(self._random.expovariate(RATE))
                if len(in_flight) < 2 * IN_FLIGHT:
                    task = asyncio.create_task(self._publish_some(client))
                    in_flight.add(task)
                    task.add_done_callback(in_flight.discard)

    async def _publish_some(self, client: Client) -> None:
        topic = self._random.choice(list(TOPICS))
        count = self._random.choice([0, 0, 0, 0, 10])
        self._judge.calls += count or 1
        try:
            if count:
                done = await client.publish_many(topic, [self._payload() for _ in range(count)])
            else:
                done = [await client.publish(topic, self._payload(), id=str(uuid.uuid4()))]
        except PubsubError as error:
            self._judge.outcomes[type(error).__name__] += count or 1
            return
        for each in done:
            self._judge.acknowledge(Acked(each.topic, each.id, each.seq, each.duplicate))

    def _payload(self) -> Json:
        return {"kind": self._random.choice(KINDS), "padding": "x" * self._random.choice([10, 10, 500])}


def exported_of(events: Subscription[Any]) -> dict[str, Json]:
    return {topic: each.to_json() for topic, each in events.position.items()}
