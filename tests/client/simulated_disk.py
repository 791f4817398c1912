"""The durable journal of a simulated server: one disk over all of its lives, and commits in groups, without a thread.

A server that is killed between a commit and its report has written messages that nobody was told of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from msgspec import UNSET, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent, expiring_at, make_event
from pubsub.core.journal import Host, StoredTopic, lifetime
from pubsub.core.log import Assigned, Done, Found, Publisher, Purged
from pubsub.core.topic import Topic
from pubsub.journals.dedup import RecentIds, id_key
from pubsub.journals.memory import NO_COMMITS
from pubsub.protocol.errors import Conflict, Failure, TopicNotFound
from pubsub.protocol.requests import Publish, TopicOptions

PAGE = 4  # events of a page that is read

Report = Callable[[], None]


@dataclass
class DiskTopic:
    """A topic as it is on the disk. ``events``: all that are kept, without a missing ``seq``."""

    name: str
    epoch: str
    options: TopicOptions
    seq: int = 0
    events: list[StoredEvent] = field(default_factory=list)
    ids: RecentIds | None = None

    @property
    def first(self) -> int:
        return self.seq - len(self.events) + 1

    def keeps(self, seq: int, now: float) -> bool:
        place = seq - self.first
        return 0 <= place < len(self.events) and self.events[place].expires > now

    def trim(self, now: float) -> None:
        """Forget the oldest events that have expired or are beyond the topic's history."""
        assert self.options.history is not None, "the Broker fills it in"
        expired = next((place for place, each in enumerate(self.events) if each.expires > now), len(self.events))
        del self.events[: max(expired, len(self.events) - self.options.history)]


class Disk:
    """See the module. ``noted`` is called for each message that is written: from then on it exists."""

    def __init__(self, noted: Callable[[str, str, StoredEvent], None]) -> None:
        self.topics: dict[str, DiskTopic] = {}
        self.noted = noted


class DiskLog:
    """The log of one topic (TopicLog)."""

    topic: Topic
    appending = False

    def __init__(self, journal: DiskJournal, stored: DiskTopic) -> None:
        self._journal = journal
        self._stored = stored

    @property
    def _exists(self) -> bool:
        return self._journal.disk.topics.get(self._stored.name) is self._stored

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        publisher.wait(requests)
        for request in requests:
            self._journal.add(partial(self._write, request, publisher))

    def _write(self, request: Publish, publisher: Publisher) -> Report:
        stored, clock = self._stored, self._journal.clock
        now, ts, key = clock.monotonic(), clock.timestamp(), id_key(request.message.id)
        if not self._exists:
            return partial(publisher.refused, request, TopicNotFound(stored.name))
        if stored.ids is not None and (first := stored.ids.find(key, now)) is not None:
            return partial(publisher.repeated, request, first, ts)
        if request.expect_seq is not UNSET and request.expect_seq != stored.seq:
            return partial(publisher.refused, request, Conflict(request.expect_seq, stored.seq))
        stored.seq += 1
        event = make_event(stored.name, request.message, stored.seq, ts)
        if stored.options.ttl_sec is not None or request.ttl_sec is not UNSET:
            event = expiring_at(event, now + lifetime(stored.options, request))
        stored.events.append(event)
        stored.trim(now)
        if stored.ids is not None:
            stored.ids.add(key, stored.seq, now)
        self._journal.disk.noted(stored.name, stored.epoch, event)
        return partial(self._deliver, event, stored.first, request, publisher, ts)

    def _deliver(self, event: StoredEvent, first: int, request: Publish, publisher: Publisher, ts: str) -> None:
        host = self._journal.host
        host.trim(self.topic, first, 0)
        if event.expires < float("inf"):
            host.begin_to_expire(self.topic)
        host.deliver(self.topic, [event])
        publisher.published([request], event.seq, ts)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> NoReturn:
        raise AssertionError("nobody publishes a list here")

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        now = self._journal.clock.monotonic()
        page = [each for each in self._stored.events if after < each.seq <= until and each.expires > now]
        self._journal.defer(partial(done, page[: min(limit, PAGE)]))

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        now = self._journal.clock.monotonic()
        missing = not all(self._stored.keeps(seq, now) for seq in range(after + 1, until + 1))
        self._journal.defer(partial(done, missing))

    def purge(self, done: Purged) -> None:
        self._journal.add(partial(self._purge, done))

    def _purge(self, done: Purged) -> Report:
        count = len(self._stored.events)
        self._stored.events.clear()
        return partial(self._forget, self._stored.seq, count, done)

    def _forget(self, purged: int, count: int, done: Purged) -> None:
        self._journal.host.trim(self.topic, purged + 1, 0)
        self._journal.host.forget(self.topic, lambda _: done(count))

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        self._journal.add(partial(self._delete, done))

    def _delete(self, done: Done) -> Report:
        if not self._exists:
            return partial(done, TopicNotFound(self._stored.name))
        del self._journal.disk.topics[self._stored.name]
        return partial(self._remove, done)

    def _remove(self, done: Done) -> None:
        self._journal.host.remove_topic(self.topic)
        done(None)


class DiskJournal:
    """The journal of one life of the server (Journal). ``defer`` runs a callback in a later tick, in any order."""

    full = False
    failure = ""
    measures = NO_COMMITS
    host: Host

    def __init__(
        self, disk: Disk, clock: Clock, new_epoch: Callable[[], str], defer: Callable[[Report], object]
    ) -> None:
        self.disk = disk
        self.clock = clock
        self.defer = defer
        self._new_epoch = new_epoch
        self._waiting: list[Callable[[], Report]] = []
        self._busy = False

    @property
    def is_idle(self) -> bool:
        return not self._busy

    def attach(self, host: Host) -> None:
        self.host = host

    def restore(self) -> None:
        for stored in self.disk.topics.values():
            stored.trim(self.clock.monotonic())
            newest = stored.events[max(0, len(stored.events) - self.host.ring_size(stored.options)) :]
            self._add_topic(stored, DiskLog(self, stored), newest)

    def _add_topic(self, stored: DiskTopic, log: DiskLog, newest: Sequence[StoredEvent] = ()) -> None:
        expiring = any(each.expires < float("inf") for each in stored.events)
        log.topic = self.host.add_topic(
            StoredTopic(
                stored.name, stored.epoch, stored.options, log,
                seq=stored.seq, first=stored.first, newest=newest, expiring=expiring,
            )
        )  # fmt: skip

    def create(self, name: str, options: TopicOptions, done: Done) -> DiskLog:
        stored = DiskTopic(name, self._new_epoch(), options)
        if options.dedup_sec is not None:
            stored.ids = RecentIds(name, options.dedup_sec)
        log = DiskLog(self, stored)
        self.add(partial(self._create, stored, log, done))
        return log

    def _create(self, stored: DiskTopic, log: DiskLog, done: Done) -> Report:
        self.disk.topics[stored.name] = stored

        def report() -> None:
            self._add_topic(DiskTopic(stored.name, stored.epoch, stored.options), log)
            done(None)

        return report

    def add(self, write: Callable[[], Report]) -> None:
        """Write with the next group; the function that ``write`` returns is called after the commit."""
        self._waiting.append(write)
        if not self._busy:
            self._busy = True
            self.defer(self._commit)

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        self.defer(partial(self._report, [write() for write in group]))

    def _report(self, reports: Sequence[Report]) -> None:
        for report in reports:
            report()
        if self._waiting:
            self.defer(self._commit)
        else:
            self._busy = False

    def call_when_writable(self, callback: Report) -> None:
        callback()

    def call_after(self, callback: Report) -> None:
        self.add(lambda: callback)

    def close(self) -> None:
        pass
