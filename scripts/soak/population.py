"""The good clients over all restarts of the server: topics, publishers, subscribers. Checks that nothing is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from random import Random

from members import PATIENCE, Member, Place, Publisher, Subscriber, new_member
from rooms import Rooms
from streams import STREAMS, Stream, StreamMember
from victim import Victim
from watchers import WATCHERS, Watcher

from pubsub.client import Unreachable

PLAIN_TOPICS, DURABLE_TOPICS = 4, 2
SUBSCRIBERS = 8  # of each topic
RATE = 25.0  # messages a second of each publisher
DURABLE_HISTORY = 100_000


class Population:
    """The topics and all good clients. ``place`` is a new one after each start of the server."""

    def __init__(self, victim: Victim, place: Place, random: Random, *, durable: bool) -> None:
        self._victim = victim
        self.place = place
        self.topics = {f"plain.{number}": False for number in range(PLAIN_TOPICS)}
        if durable:
            self.topics |= {f"durable.{number}": True for number in range(DURABLE_TOPICS)}
        self.publishers = [
            Publisher(topic, f"publisher-{topic}", RATE, durable=durable) for topic, durable in self.topics.items()
        ]
        self._subscribers = [
            Subscriber(topic, f"subscriber-{topic}-{number}", durable=durable)
            for topic, durable in self.topics.items()
            for number in range(SUBSCRIBERS)
        ]
        self._watchers = [Watcher(f"watcher-{name}", wanted) for name, wanted in WATCHERS.items()]
        self._streams = [
            Stream(f"stream-{name}", topic, wanted) for name, (topic, wanted) in STREAMS.items() if topic in self.topics
        ]
        self.rooms = Rooms(victim, random)
        self._running = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def everyone(self) -> list[Subscriber | Watcher | Stream]:
        return [*self.publishers, *self._subscribers, *self._watchers, *self._streams]

    def subscribers_of(self, topic: str) -> int:
        """The number of clients that a topic must have."""
        watchers = sum(each.watches(topic) for each in self._watchers)
        return SUBSCRIBERS + 1 + watchers + sum(each.topic == topic for each in self._streams)

    def _behind(self) -> list[str]:
        """The names of clients that lack an event."""
        behind = [each.name for each in [*self.publishers, *self._subscribers] if not each.is_complete]
        behind += [each.name for each in self._watchers if not each.is_complete(self.topics)]
        return behind + [each.name for each in self._streams if not each.is_complete]

    async def arrive(self) -> None:
        """Create the missing topics, connect all clients, and publish."""
        for topic, durable in self.topics.items():
            options = {"durable": True, "history": DURABLE_HISTORY} if durable else {}
            status, answer = await self._victim.ask("POST", "/topics", {"name": topic, **options})
            if status not in (201, 409):
                raise RuntimeError(f"{topic} could not be created: {answer}")
        await asyncio.gather(*(each.join(self.place) for each in self.everyone))
        if not self._tasks:
            work = [*(each.publish(self._running) for each in self.publishers), self.rooms.keep(self._running)]
            self._tasks = [asyncio.create_task(each) for each in work]
        self._running.set()

    def publish_bursts(self, count: int) -> None:
        """Publish ``count`` messages to each durable topic, all at once."""
        for each in self.publishers:
            if each.durable and each.member is not None:
                for _ in range(count):
                    each.member.publish(each.topic, time.monotonic(), "x" * 200)

    async def pause(self) -> None:
        """Stop publishing, and wait for all answers and events; a late one counts as broken."""
        self._running.clear()
        await self.rooms.rest()
        for each in self.publishers:
            assert each.member is not None
            with suppress(TimeoutError):
                await each.member.answered()
        await self.settle()

    def resume(self) -> None:
        self._running.set()

    async def settle(self) -> None:
        """Wait until every client has all events of its topic."""
        deadline = time.monotonic() + PATIENCE
        while behind := self._behind():
            if time.monotonic() > deadline:
                self.place.findings.broken.append(f"acknowledged messages are missing at {', '.join(behind)}")
                return
            await asyncio.sleep(0.05)

    async def read_again(self) -> None:
        """Check that durable topics still have every message from the first one on."""
        for each in self.publishers:
            if each.durable and each.member is not None:
                epoch = each.member.ledger.topics[each.topic].epoch
                await self._read_again(new_member(self.place, f"reader-{each.topic}"), each.topic, epoch)

    async def _read_again(self, reader: Member, topic: str, epoch: str) -> None:
        await reader.join()
        reader.request("subscribe", topic=topic, resume={topic: {"epoch": epoch, "seq": 0}})
        await reader.answered()
        deadline = time.monotonic() + PATIENCE
        while not reader.ledger.is_complete(topic):
            if time.monotonic() > deadline:
                self.place.findings.broken.append(f"{topic} is not complete: {reader.ledger.topics[topic]}")
                break
            await asyncio.sleep(0.05)
        if not reader.ledger.topics[topic].recovered:
            self.place.findings.broken.append(f"{topic} was not recovered: {reader.ledger.topics[topic]}")
        reader.close()

    async def wait_for_disconnects(self, *, graceful: bool) -> None:
        """Wait for the end of all connections; after a graceful shutdown every client has all acknowledged messages."""
        for member in self.members():
            try:
                await asyncio.wait_for(member.ended.wait(), PATIENCE)
            except TimeoutError:
                self.place.findings.broken.append(f"the connection of {member.name} did not end")
        if graceful and (behind := self._behind()):
            self.place.findings.broken.append(f"the shutdown lost acknowledged messages of {', '.join(behind)}")

    def members(self) -> Iterator[Member | StreamMember]:
        return (each.member for each in self.everyone if each.member is not None)

    @property
    def unanswered(self) -> int:
        """Number of unanswered requests of all clients."""
        return sum(member.ledger.unanswered for member in self.members())

    async def reconnect_some(self, share: int) -> None:
        """Disconnect every ``share``-th subscriber without a close frame, and connect it again at its position."""
        some = self.everyone[len(self.publishers) :: share]
        for each in some:
            if each.member is not None and not each.member.closed:
                each.member.vanish()
        await asyncio.sleep(0.2)
        for each in some:
            try:
                await each.join(self.place)
            except (Unreachable, TimeoutError) as failure:
                self.place.findings.broken.append(f"{each.name} could not reconnect: {failure!r}")

    @property
    def faults(self) -> list[str]:
        """The wrong answers to requests by REST, since the last call."""
        faults, self.rooms.faults = self.rooms.faults, []
        return faults

    def unexpected_ends(self) -> list[str]:
        """Return the names of good clients that the server has closed."""
        return [member.name for member in self.members() if member.closed]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        for member in self.members():
            member.close()
