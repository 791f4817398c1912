"""The operations of a tick, gathered into one batch for the engine. No I/O.

Publishes of a tick to one topic become one Append, from any client. The outcomes are told in the order of the
publishes all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Struct

from pubsub.core.journal import lifetime
from pubsub.journals.shared.engine import Append, Known, Operation, Outcomes

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Publisher
    from pubsub.journals.shared.log import SharedLog
    from pubsub.protocol.requests import Publish

MOST_TOGETHER: Final = 1000  # publishes in one Append, unless a list has more


class Appending(Struct):
    """An Append that may still grow in this tick. ``operation``: its place in the batch."""

    operation: int
    log: SharedLog
    requests: list[Publish]
    lifetimes: list[float]
    ts: str
    sender: str
    together: bool = False

    def add(self, requests: Sequence[Publish]) -> None:
        found = lifetimes(self.log, requests)
        if found or self.lifetimes:
            self.lifetimes += [inf] * (len(self.requests) - len(self.lifetimes))
            self.lifetimes += found or [inf] * len(requests)
        self.requests += requests

    def finish(self) -> Append:
        log = self.log
        return Append(
            Known(log.name, log.epoch, log.seq), self.requests, self.ts, self.sender, self.lifetimes, self.together
        )


class Publishes(Struct):
    """Publishes that wait for their outcomes: those of an operation, from ``offset`` on. ``size``: their bytes."""

    operation: int
    offset: int
    log: SharedLog
    requests: Sequence[Publish]
    publisher: Publisher
    ts: str
    size: int


class PublishedList(Struct):
    """A list that waits for its outcome."""

    operation: int
    log: SharedLog
    requests: Sequence[Publish]
    done: Assigned
    size: int


class Other(Struct):
    """Another operation whose outcome is awaited, or no operation, but a call after all earlier ones (-1)."""

    operation: int
    done: Callable[[Any], None]


Entry = Publishes | PublishedList | Other


class Batch(Struct):
    """Operations that are asked together, and who waits for their outcomes. ``asked``: the moment.

    ``outcomes``: the callback that the engine has.
    """

    operations: list[Operation]
    entries: list[Entry]
    asked: float = 0.0
    outcomes: Outcomes | None = None


class Gathering:
    """The operations of one tick."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._operations: list[Operation | Appending] = []
        self._open: dict[SharedLog, Appending] = {}  # by topic: those that may grow

    def __bool__(self) -> bool:
        return bool(self._operations or self.entries)

    def publish(
        self, log: SharedLog, requests: Sequence[Publish], publisher: Publisher, ts: str, sender: str, size: int
    ) -> None:
        """Add publishes of ``size`` bytes, each with an outcome of its own."""
        appending = self._open.get(log)
        if (
            appending is None
            or appending.sender != sender
            or appending.ts != ts
            or len(appending.requests) >= MOST_TOGETHER
        ):
            appending = self._open[log] = Appending(len(self._operations), log, [], [], ts, sender)
            self._operations.append(appending)
        offset = len(appending.requests)
        self.entries.append(Publishes(appending.operation, offset, log, requests, publisher, ts, size))
        appending.add(requests)

    def publish_list(
        self, log: SharedLog, requests: Sequence[Publish], done: Assigned, ts: str, sender: str, size: int
    ) -> None:
        """Add publishes of ``size`` bytes with one outcome."""
        self._open.pop(log, None)
        place = len(self._operations)
        self.entries.append(PublishedList(place, log, requests, done, size))
        self._operations.append(
            Appending(place, log, list(requests), lifetimes(log, requests), ts, sender, together=True)
        )

    def add(self, operation: Operation, done: Callable[[Any], None] | None = None) -> None:
        """Add another operation. Publishes that follow come after it."""
        self._open.clear()
        if done is not None:
            self.entries.append(Other(len(self._operations), done))
        self._operations.append(operation)

    def call_after(self, done: Callable[[Any], None]) -> None:
        """Call ``done`` after all outcomes of the operations so far."""
        self.entries.append(Other(-1, done))

    def finish(self) -> Batch:
        """Take out all of them."""
        operations = [each.finish() if isinstance(each, Appending) else each for each in self._operations]
        batch = Batch(operations, self.entries)
        self._operations, self.entries = [], []
        self._open.clear()
        return batch


def lifetimes(log: SharedLog, requests: Sequence[Publish]) -> list[float]:
    """The seconds for which each message lives; empty if no message has an end."""
    options = log.options
    if options.ttl_sec is None:
        for request in requests:
            if request.ttl_sec is not UNSET:
                break
        else:
            return []
    return [lifetime(options, request) for request in requests]
