"""The good clients together, over all restarts of the server: topics, publishers, subscribers, and when all is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

from members import PATIENCE, Member, Place, Publisher, Subscriber
from victim import Victim

from pubsub.client.address import Unreachable

PLAIN_TOPICS, DURABLE_TOPICS = 4, 2
SUBSCRIBERS = 8  # of each topic
RATE = 25.0  # messages a second of each publisher
DURABLE_HISTORY = 100_000


class Population:
    """See the module. ``place`` is a new one in each life of the server."""

    def __init__(self, victim: Victim, place: Place, *, durable: bool) -> None:
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
        self._running = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def everyone(self) -> list[Subscriber]:
        return [*self.publishers, *self._subscribers]

    async def arrive(self) -> None:
        """Make the topics that are not there, connect everyone, and publish."""
        for topic, durable in self.topics.items():
            options = {"durable": True, "history": DURABLE_HISTORY} if durable else {}
            status, answer = await self._victim.ask("POST", "/topics", {"name": topic, **options})
            if status not in (201, 409):
                raise RuntimeError(f"{topic} could not be made: {answer}")
        await asyncio.gather(*(each.join(self.place) for each in self.everyone))
        self._tasks = self._tasks or [asyncio.create_task(each.publish(self._running)) for each in self.publishers]
        self._running.set()

    def publish_bursts(self, count: int) -> None:
        """To each durable topic, all at once."""
        for each in self.publishers:
            if each.durable and each.member is not None:
                for _ in range(count):
                    each.member.publish(each.topic, time.monotonic(), "x" * 200)

    async def pause(self) -> None:
        """No one publishes, and all is answered and delivered; what is not in time is found broken."""
        self._running.clear()
        for each in self.publishers:
            assert each.member is not None
            with suppress(TimeoutError):
                await each.member.answered()
        await self.settle()

    def go_on(self) -> None:
        self._running.set()

    async def settle(self) -> None:
        """Wait until everyone has all of its topic."""
        deadline = time.monotonic() + PATIENCE
        while behind := [each.name for each in self.everyone if not each.is_complete]:
            if time.monotonic() > deadline:
                self.place.findings.broken.append(f"missing what was acknowledged: {', '.join(behind)}")
                return
            await asyncio.sleep(0.05)

    async def read_again(self) -> None:
        """Durable topics still have everything from the first message on, also what nobody needs any more."""
        for each in self.publishers:
            if each.durable and each.member is not None:
                epoch = each.member.ledger.subscriptions[each.topic].epoch
                await self._read_again(Member(self.place, f"reader-{each.topic}"), each.topic, epoch)

    async def _read_again(self, reader: Member, topic: str, epoch: str) -> None:
        await reader.join()
        reader.request("subscribe", topic=topic, resume={topic: {"epoch": epoch, "seq": 0}})
        await reader.answered()
        deadline = time.monotonic() + PATIENCE
        while not reader.ledger.is_complete(topic):
            if time.monotonic() > deadline:
                self.place.findings.broken.append(f"{topic} is not whole: {reader.ledger.subscriptions[topic]}")
                break
            await asyncio.sleep(0.05)
        if not reader.ledger.subscriptions[topic].recovered:
            self.place.findings.broken.append(f"{topic} was not recovered: {reader.ledger.subscriptions[topic]}")
        reader.close()

    async def lose_the_server(self, *, kindly: bool) -> None:
        """Its connections end; after a shutdown by the rules everyone has got all that was acknowledged."""
        for member in self.members():
            try:
                await asyncio.wait_for(member.ended.wait(), PATIENCE)
            except TimeoutError:
                self.place.findings.broken.append(f"{member.name} was not sent away")
        if kindly and (behind := [each.name for each in self.everyone if not each.is_complete]):
            self.place.findings.broken.append(f"the shutdown lost what was acknowledged: {', '.join(behind)}")

    def members(self) -> Iterator[Member]:
        return (each.member for each in self.everyone if each.member is not None)

    @property
    def unanswered(self) -> int:
        """Requests of all of them."""
        return sum(member.ledger.unanswered for member in self.members())

    async def reconnect_some(self, share: int) -> None:
        """Every ``share``-th subscriber vanishes and comes back to where it was."""
        for each in self._subscribers[::share]:
            if each.member is not None and not each.member.closed:
                each.member.vanish()
        await asyncio.sleep(0.2)
        for each in self._subscribers[::share]:
            try:
                await each.join(self.place)
            except (Unreachable, TimeoutError) as failure:
                self.place.findings.broken.append(f"{each.name} could not come back: {failure!r}")

    def unasked_ends(self) -> list[str]:
        """Who was thrown out though it did nothing wrong."""
        return [member.name for member in self.members() if member.closed]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        for member in self.members():
            member.close()
