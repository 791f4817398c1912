"""The Python clients of the soak: publishers and subscribers of every kind that `pubsub.client` offers."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import Any

from items import positions_of, take_item
from judge import Acked, Judge
from kinds import FILTERS, KINDS
from oracle import Json
from trouble import FLEETING, LASTING

from pubsub.client import (
    AnswerTimeout,
    Client,
    Position,
    Published,
    Publisher,
    PubsubError,
    Subscriber,
    Subscription,
    TopicNotFound,
)

TOPICS = [*LASTING, *FLEETING]
IN_FLIGHT = 20  # publishes of one client
RATE = 15.0  # publishes a second of each client
HEARTBEAT = 2.0
PATIENCE = 20.0  # seconds until a thread must have ended

Token = Callable[[str], Awaitable[str]]


class PythonClients:
    """See the module. ``url`` leads through a faulty network, ``token`` makes a token for a client's id."""

    def __init__(self, judge: Judge, url: str, token: Callable[[str], str], random: Random) -> None:
        self._judge = judge
        self._url = url
        self._token = token
        self._random = random
        self._publishing = asyncio.Event()
        self._reading = True
        self._stop = threading.Event()
        self._publishers: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._threads: list[threading.Thread] = []
        self._loop = asyncio.get_running_loop()

    def client(self, name: str, **options: Any) -> Client:
        async def token() -> str:
            await asyncio.sleep(self._random.choice([0, 0, 0.05]))
            return self._token(name)

        return Client(
            self._url, client_id=name, token=token, heartbeat=HEARTBEAT, connect_timeout=None,
            answer_timeout=self._random.choice([5, 30]), **options,
        )  # fmt: skip

    async def arrive(self) -> None:
        """Start all clients; they publish once :meth:`resume` is called."""
        readers = [
            self._read("all", ">"),
            self._read("durable", "durable.*"),
            self._read("one", "durable.short"),
            self._read("fleeting", "brief.>"),
            self._read("some", "durable.*", FILTERS[1]),
            self._read("few", ">", FILTERS[3]),
            self._read("small", "durable.>", client={"max_incoming": 5}),
            self._read("slow", "durable.long", pause=0.02, client={"max_incoming": 10}),
            self._wander("wanderer", ">"),
            self._wander("impatient", "durable.>", most=0.3),
        ]
        self._readers = [asyncio.create_task(each) for each in readers]
        self._publishers = [asyncio.create_task(self._publish(f"py-publisher-{number}")) for number in range(3)]
        for target in (self._publish_over_rest, self._read_in_a_thread):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)
        self.resume()

    def resume(self) -> None:
        self._publishing.set()

    async def pause(self) -> None:
        """Publish no more, and wait for the outcome of every publish."""
        self._publishing.clear()
        self._stop.set()
        await asyncio.gather(*self._publishers)

    async def leave(self) -> Sequence[tuple[str, bool, object]]:
        """Close all clients."""
        self._reading = False
        for task in self._readers:
            task.cancel()
        ended = await asyncio.gather(*self._readers, return_exceptions=True)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, PATIENCE)
        alive = [each for each in self._threads if each.is_alive()]
        failed = [repr(each) for each in ended if isinstance(each, Exception)]
        return [
            ("no reader in Python failed", not failed, failed[:3]),
            ("every thread ends", not alive, alive),
        ]

    def kill(self) -> None:
        self._stop.set()
        self._reading = False

    # Subscribers

    async def _read(
        self, name: str, topic: str, chosen: Json = FILTERS[0], *, pause: float = 0, client: Mapping[str, Any] = {}
    ) -> None:
        name = f"py-{name}"
        self._judge.new_reading(name, topic, chosen)
        async with self.client(name, **client) as connected:
            while True:
                async with self._subscribed(connected, topic, **chosen) as events:
                    if events is None:
                        continue
                    self._judge.begin(name, positions_of(events.position))
                    async for item in events:
                        self._take(name, item, events.position)
                        if pause:
                            await asyncio.sleep(pause)

    @asynccontextmanager
    async def _subscribed(self, client: Client, topic: str, **options: Any) -> AsyncIterator[Subscription[Any] | None]:
        """Subscribe; gives None if the topic does not exist at the moment, or the server was away for too long."""
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(client.subscribe(topic, **options))
            except (TopicNotFound, AnswerTimeout):
                yield None
            else:
                yield events

    async def _wander(self, name: str, topic: str, most: float = 4.0) -> None:
        """Read for a while, export the position, and go on from it with a new client."""
        name = f"py-{name}"
        self._judge.new_reading(name, topic)
        exported: dict[str, Json] | None = None
        while True:
            options: dict[str, Any] = {} if exported is None else {"resume": exported}
            async with self.client(name) as connected, self._subscribed(connected, topic, **options) as events:
                if events is None:
                    continue
                if exported is None:
                    self._judge.begin(name, positions_of(events.position))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._random.uniform(0, most)):
                        async for item in events:
                            self._take(name, item, events.position)
                self._judge.check_positions(name, positions_of(events.position))
                exported = json.loads(json.dumps({name: each.to_json() for name, each in events.position.items()}))

    def _take(self, name: str, item: object, positions: Mapping[str, Position]) -> None:
        take_item(self._judge, name, item)
        if self._random.random() < 0.1:
            self._judge.check_positions(name, positions_of(positions))

    def _read_in_a_thread(self) -> None:
        name = "py-thread"
        self._judge.new_reading(name, "durable.*")
        with Subscriber(
            self._url, "durable.*", client_id=name, token=partial(self._token, name), heartbeat=HEARTBEAT,
            connect_timeout=None,
        ) as events:  # fmt: skip
            begun = positions_of(events.position)
            self._loop.call_soon_threadsafe(self._judge.begin, name, begun)
            while self._reading:
                with suppress(TimeoutError):
                    item = events.get(timeout=0.2)
                    self._loop.call_soon_threadsafe(self._take, name, item, events.position)

    # Publishers

    async def _publish(self, name: str) -> None:
        in_flight: set[asyncio.Task[None]] = set()
        async with self.client(name, max_outgoing=IN_FLIGHT) as client:
            await self._publishing.wait()
            while self._publishing.is_set():
                await asyncio.sleep(self._random.expovariate(RATE))
                if len(in_flight) < 2 * IN_FLIGHT:
                    task = asyncio.create_task(self._publish_one(client))
                    in_flight.add(task)
                    task.add_done_callback(in_flight.discard)
                    if self._random.random() < 0.02:
                        self._loop.call_later(self._random.choice([0, 0.01]), task.cancel)
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _publish_one(self, client: Client) -> None:
        topic = self._random.choice(TOPICS)
        count = self._random.choice([0, 0, 0, 0, 10])
        self._judge.calls += count or 1
        try:
            if count:
                payloads = [self._payload() for _ in range(count)]
                for done in await client.publish_many(topic, payloads):
                    self._acknowledge(done)
            else:
                self._acknowledge(await client.publish(topic, self._payload(), id=str(uuid.uuid4())))
        except PubsubError as error:
            self._judge.outcomes[type(error).__name__] += count or 1
        except asyncio.CancelledError:
            self._judge.outcomes["cancelled"] += count or 1

    def _acknowledge(self, done: Published) -> None:
        self._judge.acknowledge(Acked(done.topic, done.id, done.seq, done.duplicate))

    def _payload(self) -> Json:
        return {"kind": self._random.choice(KINDS), "padding": "x" * self._random.choice([10, 10, 500])}

    def _publish_over_rest(self) -> None:
        """The synchronous publisher, in a thread. Its network fails too, and it gives up after some tries."""
        random = Random(self._random.random())
        with Publisher(self._url) as publisher:
            while not self._stop.wait(random.expovariate(RATE)):
                topic = random.choice(TOPICS)
                self._loop.call_soon_threadsafe(self._count_call)
                try:
                    done = publisher.publish(topic, {"kind": random.choice(KINDS)})
                except PubsubError as error:
                    self._loop.call_soon_threadsafe(self._judge.outcomes.update, [type(error).__name__])
                else:
                    self._loop.call_soon_threadsafe(self._acknowledge, done)

    def _count_call(self) -> None:
        self._judge.calls += 1
