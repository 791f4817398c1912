"""The last 15 minutes in plain numbers: a sample every five seconds, and never more than fit. It knows no route."""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from math import nan
from typing import Final

from pubsub.core.histogram import Histogram
from pubsub.core.losses import Loss
from pubsub.metrics.quantiles import difference, quantile
from pubsub.metrics.snapshot import take_snapshot
from pubsub.metrics.sources import Sources
from pubsub.protocol.dashboard import Arrivals
from pubsub.system.memory import resident_bytes
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import TRANSPORTS

PERIOD: Final = 5.0  # seconds
WINDOW: Final = 900  # seconds
KEPT: Final = int(WINDOW / PERIOD) + 1
ARRIVAL_SEC: Final = 300  # so long after the start, clients count as those of a deployment

COUNTERS: Final = (
    "published", "delivered", "delivered_bytes",
    *(f"lost {reason.value}" for reason in Loss), *(f"ended {ending.name.lower()}" for ending in Ending),
)  # fmt: skip
GAUGES: Final = ("p50", "p99", "loop_lag", "memory", "connections", "queued", "lagging")
COLUMNS: Final = ("at", *COUNTERS, *GAUGES)  # 33 numbers: with the others 50 KiB in all
PLACE: Final = {name: place for place, name in enumerate(COLUMNS)}


class Measured:
    """A histogram, of which only the values since the last question count."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._before = list(histogram.counts)

    def take(self, *parts: float) -> list[float]:
        """The quantiles of the values since the last call; not a number if there was no value."""
        counts = list(self._histogram.counts)
        new, self._before = difference(counts, self._before), counts
        found = [quantile(self._histogram.bounds, new, part) for part in parts]
        return [nan if each is None else each for each in found]


class Samples:
    """See the module. ``now`` is Unix time in seconds, ``uptime`` the seconds since the start of the server."""

    def __init__(self, sources: Sources, now: Callable[[], float], uptime: Callable[[], float]) -> None:
        self.rows: deque[Sequence[float]] = deque(maxlen=KEPT)
        self.arrivals = Arrivals(0, 0, 0, 0)
        self._sources = sources
        self._now = now
        self._uptime = uptime
        self._latency = Measured(sources.broker.flushes.latency)
        self._loop_lag = Measured(sources.loop_lag)

    def column(self, name: str) -> list[float]:
        place = PLACE[name]
        return [row[place] for row in self.rows]

    def rate(self, *names: str) -> list[float]:
        """The growth of the sum of some counters, in a second: 0 for the first sample, which has none before it."""
        places = [PLACE[name] for name in names]
        return [0.0] + [
            sum(late[place] - early[place] for place in places) / max(late[0] - early[0], 0.001)
            for early, late in pairwise(self.rows)
        ]

    def grown(self, prefix: str) -> dict[str, int]:
        """The growth over all samples of each counter that begins with ``prefix``, without those that did not grow."""
        first, last = self.rows[0], self.rows[-1]
        grown = {name: int(last[place] - first[place]) for name, place in PLACE.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): count for name, count in grown.items() if count}

    async def take(self) -> None:
        """Add a sample of this moment."""
        snapshot = await take_snapshot(self._sources)
        broker, services = self._sources.broker, self._sources.services
        departures = services.departures.counts
        row = [
            self._now(),
            snapshot.published.messages, broker.delivered.messages, broker.delivered.bytes,
            *(broker.losses.counts[reason] for reason in Loss),
            *(sum(departures[transport, ending] for transport in TRANSPORTS) for ending in Ending),
            *self._latency.take(0.5, 0.99), *self._loop_lag.take(0.99),
            resident_bytes(), len(services.connections), snapshot.queues.messages, snapshot.queues.clients,
        ]  # fmt: skip
        self.rows.append(array("d", row))
        if self._uptime() <= ARRIVAL_SEC:
            self._note_arrivals()

    def _note_arrivals(self) -> None:
        counts = self._sources.broker.arrivals
        self.arrivals = Arrivals(counts.moved, counts.new, counts.resumes[True], counts.resumes[False])


async def sampled(samples: Samples) -> AsyncIterator[None]:
    """Take samples as long as this context of an Application lasts."""
    await samples.take()
    task = asyncio.create_task(_take_forever(samples))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _take_forever(samples: Samples) -> None:
    while True:
        await asyncio.sleep(PERIOD)
        await samples.take()
