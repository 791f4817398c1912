"""The journal of topics that live as long as the process: a topic's ring is all that is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec import UNSET, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import expiring_at, make_event, make_events
from pubsub.core.histogram import Histogram
from pubsub.core.journal import JournalMeasures, StoredTopic, lifetime, random_epoch, sender_of
from pubsub.journals.dedup import RecentIds, id_key
from pubsub.journals.placing import place_all, remember
from pubsub.protocol.errors import Conflict

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.journal import Host
    from pubsub.core.log import Assigned, Done, Publisher, Purged
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions


NO_COMMITS: Final = JournalMeasures(Histogram(()), failures=0, waiting_bytes=0, files=())


class MemoryLog:
    """One topic (TopicLog). Every call ends in the same step."""

    __slots__ = ("_clock", "_deliver", "_host", "_name", "_options", "_plain", "_seen", "_seq", "topic")

    topic: Topic
    appending = False

    def __init__(self, name: str, options: TopicOptions, host: Host, clock: Clock) -> None:
        self._name = name
        self._options = options
        self._host = host
        self._deliver = host.deliver
        self._clock = clock
        self._seq = 0
        self._seen = None if options.dedup_sec is None else RecentIds(name, options.dedup_sec)
        self._plain = options.ttl_sec is None and self._seen is None and not options.sender

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        # The two fields are the same object only if both are unset: one is a float, the other a whole number.
        plain = self._plain
        for request in requests:
            plain = plain and request.ttl_sec is request.expect_seq
        if not plain:
            for request in requests:
                self._append_with_options(request, publisher)
            return
        ts, first = self._clock.timestamp(), self._seq + 1
        self._seq += len(requests)
        self._deliver(self.topic, make_events(self._name, requests, first, ts))
        publisher.published(requests, first, ts)

    def _append_with_options(self, request: Publish, publisher: Publisher) -> None:
        ts, now, seen = self._clock.timestamp(), self._clock.monotonic(), self._seen
        key = b"" if seen is None else id_key(request.message.id)
        if seen is not None and (first := seen.find(key, now)) is not None:
            publisher.repeated(request, first, ts)
            return
        if request.expect_seq is not UNSET and request.expect_seq != self._seq:
            publisher.refused(request, Conflict(request.expect_seq, self._seq))
            return
        self._seq = seq = self._seq + 1
        if seen is not None:
            seen.add(key, seq, now)
        sender = sender_of(self._options, publisher.client_id) if self._options.sender else UNSET  # saves a call
        event = make_event(self._name, request.message, seq, ts, sender)
        if self._options.ttl_sec is not None or request.ttl_sec is not UNSET:
            event = self._limit(event, request, now)
        self._deliver(self.topic, [event])
        publisher.published([request], seq, ts)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        ts, now = self._clock.timestamp(), self._clock.monotonic()
        try:
            places = place_all(requests, self._seq, self._seen, now)
        except Conflict as failure:
            done(failure)
            return
        self._seq = places.seq
        if self._seen is not None:
            remember(places, self._seen, now)
        sender = sender_of(self._options, client_id)
        events = [
            self._limit(make_event(self._name, request.message, seq, ts, sender), request, now)
            for request, seq in places.new(requests)
        ]
        self._host.deliver_all(self.topic, events)
        done(places.assignments)

    def _limit(self, event: StoredEvent, request: Publish, now: float) -> StoredEvent:
        """The event with the time to live of its topic or its publish, if there is one."""
        ttl = lifetime(self._options, request)
        if ttl == inf:
            return event
        self._host.begin_to_expire(self.topic)
        return expiring_at(event, now + ttl)

    def read(self, *_: object) -> NoReturn:
        raise AssertionError("all that is kept is in the ring")

    find_missing = read

    def purge(self, done: Purged) -> None:
        self._host.forget(self.topic, done)

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        if expect_seq is not UNSET and expect_seq != self._seq:
            done(Conflict(expect_seq, self._seq))
            return
        self._host.remove_topic(self.topic)
        del self.topic  # the topic has this log: without the cycle their memory is free at once
        done(None)


class MemoryJournal:
    """See the module (Journal). ``new_epoch`` makes the epoch of a new topic."""

    full = False
    failure = ""
    measures = NO_COMMITS
    _host: Host

    def __init__(self, clock: Clock, new_epoch: Callable[[], str] = random_epoch) -> None:
        self._clock = clock
        self._new_epoch = new_epoch

    def attach(self, host: Host) -> None:
        self._host = host

    def restore(self) -> None:
        pass

    def create(self, name: str, options: TopicOptions, done: Done) -> MemoryLog:
        log = MemoryLog(name, options, self._host, self._clock)
        log.topic = self._host.add_topic(StoredTopic(name, self._new_epoch(), options, log))
        done(None)
        return log

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        callback()

    def call_after(self, callback: Callable[[], None]) -> None:
        callback()

    def close(self) -> None:
        pass
