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
from pubsub.journals.sizes import size_of

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Publisher
    from pubsub.journals.shared.log import SharedLog
    from pubsub.protocol.requests import Publish

MOST_TOGETHER: Final = 1000  # publishes in one Append, unless a list has more


class Appending(Struct):
    """An Append that may still grow in this tick."""

    log: SharedLog
    requests: list[Publish]
    lifetimes: list[float]
    ts: str
    sender: str
    together: bool = False

    def finish(self) -> Append:
        log = self.log
        return Append(
            Known(log.name, log.epoch, log.seq), self.requests, self.ts, self.sender, self.lifetimes, self.together
        )


class Publishes(Struct):
    """Publishes that wait for their outcomes: those of an operation, from ``offset`` on."""

    operation: int
    offset: int
    log: SharedLog
    requests: Sequence[Publish]
    publisher: Publisher
    ts: str


class PublishedList(Struct):
    """A list that waits for its outcome."""

    operation: int
    log: SharedLog
    requests: Sequence[Publish]
    done: Assigned


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
    """The operations of one tick. ``size``: the bytes of its publishes."""

    def __init__(self) -> None:
        self._operations: list[Operation | Appending] = []
        self._open: dict[SharedLog, int] = {}  # by topic: the index of the Append that may grow
        self.entries: list[Entry] = []

    def __bool__(self) -> bool:
        return bool(self._operations or self.entries)

    def publish(self, log: SharedLog, requests: Sequence[Publish], publisher: Publisher, ts: str, sender: str) -> None:
        """Add publishes, each with an outcome of its own."""
        index = self._open.get(log, -1)
        appending = self._operations[index] if index >= 0 else None
        if (
            not isinstance(appending, Appending)
            or appending.sender != sender
            or appending.ts != ts
            or len(appending.requests) >= MOST_TOGETHER
        ):
            appending = Appending(log, [], [], ts, sender)
            self._open[log] = index = len(self._operations)
            self._operations.append(appending)
        self.entries.append(Publishes(index, len(appending.requests), log, requests, publisher, ts))
        appending.requests += requests
        appending.lifetimes += lifetimes(log, requests)

    def publish_list(self, log: SharedLog, requests: Sequence[Publish], done: Assigned, ts: str, sender: str) -> None:
        """Add publishes with one outcome."""
        self._open.pop(log, None)
        self.entries.append(PublishedList(len(self._operations), log, requests, done))
        self._operations.append(Appending(log, list(requests), lifetimes(log, requests), ts, sender, together=True))

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
    """The seconds for which each message lives."""
    options = log.options
    if options.ttl_sec is None:
        for request in requests:
            if request.ttl_sec is not UNSET:
                break
        else:
            return [inf] * len(requests)
    return [lifetime(options, request) for request in requests]


def size_of_entry(entry: Entry) -> int:
    return 0 if isinstance(entry, Other) else size_of(entry.requests)


def weight_of(entry: Entry) -> int:
    """The messages of an entry, as a measure of the time that its outcome takes."""
    return 1 if isinstance(entry, Other) else len(entry.requests)
