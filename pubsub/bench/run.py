"""One run: connect, publish for a time, wait for the messages in flight, and sum up. It must never print."""

import asyncio
import gc
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pubsub.bench import filler
from pubsub.bench.clients import Publisher, Tally
from pubsub.bench.pace import SECOND, Pace, Scheduled, Windowed
from pubsub.bench.plan import Plan, Transport
from pubsub.bench.subscribers import (
    CompressedSubscriber,
    IdlePatterns,
    StreamSubscriber,
    Subscriber,
    WebSocketSubscriber,
)
from pubsub.bench.wire import Wire
from pubsub.client import Unreachable
from pubsub.client.address import websocket_url

CONNECTORS: Final = 50
"""Clients that connect at the same time: fewer than the accept queue of any server holds."""
PATTERNS_OF_ONE: Final = 1000
"""The most idle patterns of one client."""
SUBSCRIBERS: Final[dict[Transport, type[Subscriber]]] = {
    Transport.WEBSOCKET: WebSocketSubscriber,
    Transport.SSE: StreamSubscriber,
}
QUIET_SEC: Final = 2.0
"""After this time without any message, the missing ones are lost."""
SETTLE_SEC: Final = 30.0
"""The longest wait for the messages in flight at the end, even if others still come."""
LOOK_SEC: Final = 0.02
EARLY_SEC: Final = 0.001
"""The time by which timers of uvloop may be too early."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run; latencies in nanoseconds (None without deliveries)."""

    seconds: float
    published: int
    acknowledged: int
    unsent: int  # due by the clock, but not sent: too many were without ack
    deliveries: int
    lost: int
    duplicated: int
    disordered: int
    dropped: int  # of the lost, those that the server reported
    received_bytes: int  # of all subscribers
    compressed: int  # deliveries that came compressed
    latencies: dict[str, int | None]
    client_cpu: float  # share of one core
    faults: list[str]

    @property
    def is_flawless(self) -> bool:
        return not (self.lost or self.duplicated or self.disordered or self.faults)


class Stage(Enum):
    CONNECTING = auto()
    PUBLISHING = auto()
    SETTLING = auto()
    DONE = auto()


class Run:
    """One run. A fault, or :meth:`stop`, ends it early; its result has the measurements up to then."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.subscribers: list[Subscriber] = []
        self._idle: list[IdlePatterns] = []
        self.connected = 0
        self.faults: list[str] = []  # those before the run ended: later ones follow from them
        self._tally = Tally(self._fail)
        self._over = asyncio.Event()
        fill = filler.varied if plan.compress else filler.plain
        self._publisher = Publisher(self._tally, plan.topic, fill, plan.size, self._refill)
        self._pace: Pace = (
            Scheduled(plan.rate, plan.duration, plan.most_in_flight) if plan.rate else Windowed(plan.window)
        )
        self.stage = Stage.CONNECTING
        self._next_slice: asyncio.Handle | None = None
        self._began = 0
        self._unsent = 0
        self._cpu = 0.0

    def stop(self) -> None:
        """End early, or end the wait for messages in flight; neither is a fault."""
        self._over.set()
        if self.stage is Stage.SETTLING:
            self.stage = Stage.DONE

    @property
    def deliveries(self) -> int:
        return sum(each.account.delivered for each in self.subscribers)

    @property
    def missed(self) -> int:
        """The number of messages that did not come although a later one did."""
        return sum(each.account.missed for each in self.subscribers)

    @property
    def acknowledged(self) -> int:
        return self._publisher.acked

    async def connect(self) -> None:
        """Connect and subscribe all clients; raises Unreachable."""
        await self._unless_over(self._connect_all())

    async def measure(self) -> None:
        """Publish for the time of the plan, then wait for the messages in flight."""
        if self._over.is_set():
            return
        gc.freeze()  # the collector need not look through thousands of clients again and again
        self._began = self._tally.last_at = time.monotonic_ns()
        cpu = time.process_time()
        await self._publish()
        self._cpu = (time.process_time() - cpu) * SECOND / (time.monotonic_ns() - self._began)
        await self._settle()

    async def _publish(self) -> None:
        self.stage = Stage.PUBLISHING
        try:
            self._pace.start(self._began, self._refill)
            await self._unless_over(asyncio.sleep(self.plan.duration + EARLY_SEC))
            self._refill()  # messages that became due in the last moment
            self._unsent = self._pace.unsent(self._publisher)
        finally:
            self.stage = Stage.SETTLING
            self._pace.stop()

    def close(self) -> None:
        clients: list[Wire] = [self._publisher, *self._idle, *self.subscribers]
        for each in clients:
            each.close()

    def result(self) -> Result:
        accounts = [each.account for each in self.subscribers]
        latencies = self._tally.latencies
        return Result(
            seconds=(self._tally.last_at - self._began) / SECOND,
            published=self._publisher.published,
            acknowledged=self._publisher.acked,
            unsent=self._unsent,
            deliveries=self.deliveries,
            lost=sum(each.lost(self._publisher.acked) for each in accounts),
            duplicated=sum(each.duplicated for each in accounts),
            disordered=sum(each.disordered for each in accounts),
            dropped=self._tally.dropped,
            received_bytes=self._tally.received,
            compressed=self._tally.compressed,
            latencies={f"p{100 * share:g}": latencies.percentile(share) for share in (0.5, 0.99, 0.999)}
            | {"max": latencies.percentile(1)},
            client_cpu=self._cpu,
            faults=self.faults + self._unacknowledged(),
        )

    def _unacknowledged(self) -> list[str]:
        missing = self._publisher.in_flight
        return [f"{missing:,} publishes were not acknowledged"] if missing else []

    def _fail(self, reason: str) -> None:
        if not self._over.is_set():
            self.faults.append(reason)
        self._over.set()

    def _refill(self) -> None:
        """Publish at most a slice of the messages that may be sent, and the next slice in the next tick."""
        if self.stage is Stage.PUBLISHING and self._next_slice is None and self._pace.refill(self._publisher):
            self._next_slice = asyncio.get_running_loop().call_soon(self._refill_next)

    def _refill_next(self) -> None:
        self._next_slice = None
        self._refill()

    async def _connect_all(self) -> None:
        name = self._name("publisher")
        await self._publisher.open(websocket_url(self.plan.base, name), self.plan.credentials)
        for first in range(0, self.plan.patterns, PATTERNS_OF_ONE):
            await self._hold_patterns(range(first, min(first + PATTERNS_OF_ONE, self.plan.patterns)))
        numbers = iter(range(self.plan.subscribers))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONNECTORS):
                    group.create_task(self._connect_each(numbers))
        except* Unreachable as failures:
            raise failures.exceptions[0] from None

    async def _connect_each(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            plan = self.plan
            kind = CompressedSubscriber if plan.compress else SUBSCRIBERS[plan.transport]
            subscriber = kind(self._tally)
            self.subscribers.append(subscriber)
            name = self._name(str(number))
            await subscriber.subscribe(plan.base, plan.topic, name, plan.credentials, plan.filter_of(number))
            self.connected += 1

    async def _hold_patterns(self, numbers: range) -> None:
        client = IdlePatterns(self._tally)
        self._idle.append(client)
        name = self._name(f"idle-{numbers.start}")
        await client.open(websocket_url(self.plan.base, name), self.plan.credentials)
        await client.subscribe_all([self.plan.pattern(number) for number in numbers], name)

    def _name(self, role: str) -> str:
        """Return the client id for a role: that of the token, as a token allows no other."""
        return self.plan.credentials.client_id or f"{self.plan.topic}-{role}"

    async def _unless_over(self, step: Coroutine[None, None, None]) -> None:
        """Await ``step``, or cancel it when the run is over."""
        task, over = asyncio.create_task(step), asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            over.cancel()
            await asyncio.gather(task, over, return_exceptions=True)

    async def _settle(self) -> None:
        """Wait until all messages in flight have come, or no more come."""
        began = time.monotonic_ns()
        while (
            self.stage is Stage.SETTLING
            and not self._has_all
            and (now := time.monotonic_ns()) < began + SETTLE_SEC * SECOND
        ):
            if now > max(began, self._tally.last_at) + QUIET_SEC * SECOND:
                return
            await asyncio.sleep(LOOK_SEC)

    @property
    def _has_all(self) -> bool:
        """True if no message is in flight; those of a closed connection are not."""
        return (self._publisher.closed or not self._publisher.in_flight) and all(
            each.closed or each.account.expected > self._publisher.acked for each in self.subscribers
        )
