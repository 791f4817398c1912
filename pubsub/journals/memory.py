"""The journal of topics that live as long as the process: a topic's ring is all that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from msgspec import UNSET

from pubsub.core.clock import Clock
from pubsub.core.event import expiring_at, make_event
from pubsub.core.journal import StoredTopic, lifetime, random_epoch
from pubsub.journals.dedup import RecentIds, id_key

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Done, Publisher
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions


class MemoryLog:
    """One topic (TopicLog). Every call ends in the same step."""

    __slots__ = ("_clock", "_deliver", "_has_ttl", "_host", "_name", "_options", "_seen", "_seq", "topic")

    topic: Topic
    appending = False

    def __init__(self, name: str, options: TopicOptions, host: Host, clock: Clock) -> None:
        self._name = name
        self._options = options
        self._host = host
        self._deliver = host.deliver
        self._clock = clock
        self._seq = 0
        self._has_ttl = options.ttl_sec is not None
        self._seen = None if options.dedup_sec is None else RecentIds(name, options.dedup_sec)

    def append(self, request: Publish, publisher: Publisher) -> None:
        ts = self._clock.timestamp()
        seq = self._seq + 1
        if self._seen is not None:
            key, now = id_key(request.message.id), self._clock.monotonic()
            if (first := self._seen.find(key, now)) is not None:
                publisher.repeated(request, first, ts)
                return
            self._seen.add(key, seq, now)
        self._seq = seq
        event = make_event(self._name, request.message, seq, ts)
        if self._has_ttl or request.ttl_sec is not UNSET:
            event = expiring_at(event, self._clock.monotonic() + lifetime(self._options, request))
            self._host.begin_to_expire(self.topic)
        self._deliver(self.topic, event)
        publisher.published(request, seq, ts)

    def read(self, *_: object) -> NoReturn:
        raise AssertionError("all that is kept is in the ring")

    find_missing = read

    def delete(self, done: Done) -> None:
        self._host.remove_topic(self.topic)
        del self.topic  # the topic has this log: without the cycle their memory is free at once
        done(None)


class MemoryJournal:
    """See the module (Journal). ``new_epoch`` makes the epoch of a new topic."""

    full = False
    failure = ""
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
