"""A journal of durable topics whose operations end, in their order, when a test says so, and a client that waits."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from msgspec import UNSET, UnsetType

from pubsub.core.event import make_event
from pubsub.core.journal import Host, StoredTopic
from pubsub.core.log import Assigned, Assignment, Done, Found, Publisher, Purged
from pubsub.core.topic import Topic
from pubsub.journals.memory import NO_COMMITS
from pubsub.protocol.errors import Conflict, Failure, NotStored, TopicNotFound
from pubsub.protocol.requests import Publish, TopicOptions
from tests.core.test_broker import ID, Client


class HeldLog:
    """One topic (TopicLog). ``topic`` is None before its creation and after its end."""

    def __init__(self, journal: HeldJournal, name: str) -> None:
        self._journal = journal
        self._name = name
        self._unsettled = 0
        self._seq = 0
        self.topic: Topic | None = None
        self.failure: Failure = TopicNotFound(name)  # of a publish without a topic

    @property
    def appending(self) -> bool:
        return self._unsettled > 0

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        publisher.wait(requests)
        for request in requests:
            self._unsettled += 1
            self._journal.add(partial(self._end_append, request, publisher))

    def _end_append(self, request: Publish, publisher: Publisher, failure: Failure | None) -> None:
        self._unsettled -= 1
        if self.topic is None or failure is not None:
            publisher.refused(request, failure or self.failure)
            return
        self._seq += 1
        self._journal.host.deliver(self.topic, [make_event(self._name, request.message, self._seq, "now")])
        publisher.published([request], self._seq, "now")

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        self._unsettled += 1
        self._journal.add(lambda failure: self._end_append_all(requests, done, failure))

    def _end_append_all(self, requests: Sequence[Publish], done: Assigned, failure: Failure | None) -> None:
        self._unsettled -= 1
        if self.topic is None or failure is not None:
            done(failure or self.failure)
            return
        placements = [Assignment(self._seq + number, False) for number in range(1, len(requests) + 1)]
        for request in requests:
            self._seq += 1
            self._journal.host.deliver(self.topic, [make_event(self._name, request.message, self._seq, "now")])
        done(placements)

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        done([])

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._journal.add(lambda failure: done(failure or False))

    def purge(self, done: Purged) -> NoReturn:
        raise AssertionError("nothing is purged here")

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        self._journal.add(lambda failure: self._end_delete(done, expect_seq, failure))

    def take_in_elsewhere(self) -> None:
        """Have a message of another server, which is not delivered here yet."""
        self._seq += 1

    def _end_delete(self, done: Done, expect_seq: int | UnsetType, failure: Failure | None) -> None:
        if expect_seq not in (UNSET, self._seq):
            failure = Conflict(0, self._seq)
        topic, gone = self.topic, TopicNotFound(self._name)
        if topic is not None and failure is None:
            self.topic = None
            self._journal.names.remove(self._name)
            self._journal.host.remove_topic(topic)
        done(gone if topic is None else failure)


class HeldJournal:
    """See the module (Journal). ``names``: the topics that it has."""

    full = False
    failure = ""
    measures = NO_COMMITS
    host: Host

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._waiting: deque[Callable[[Failure | None], None]] = deque()

    def attach(self, host: Host) -> None:
        self.host = host

    def restore(self) -> None:
        pass

    def create(self, name: str, options: TopicOptions, done: Done) -> HeldLog:
        log = HeldLog(self, name)
        self.add(lambda failure: self._end_create(log, name, options, done, failure))
        return log

    def _end_create(self, log: HeldLog, name: str, options: TopicOptions, done: Done, failure: Failure | None) -> None:
        if failure is None and name in self.names:
            failure = NotStored()
        if failure is None:
            self.names.add(name)
            log.topic = self.host.add_topic(StoredTopic(name, "e", options, log, first=1))
        else:
            log.failure = failure
        done(failure)

    def add(self, operation: Callable[[Failure | None], None]) -> None:
        self._waiting.append(operation)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def end(self, count: int | None = None, failure: Failure | None = None) -> None:
        """End the oldest ``count`` operations, or all that wait now; a ``failure`` is the outcome of each."""
        for _ in range(len(self._waiting) if count is None else count):
            self._waiting.popleft()(failure)

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        callback()

    def call_after(self, callback: Callable[[], None]) -> None:
        self.add(lambda _: callback())

    def close(self) -> None:
        pass


class WaitingClient(Client):
    """A Client whose answers may come later."""

    def send(self, kind: str, topic: str, **fields: Any) -> None:
        self.session.receive(json.dumps({"type": kind, "topic": topic, "client_id": "c"} | fields))

    def send_publish(self, topic: str, payload: Any = None) -> None:
        self.send("publish", topic, message={"id": ID, "payload": payload})

    def answers(self) -> list[Any]:
        """Take the answers that have come; the other messages are removed."""
        self.flush()
        return [message for message in self.take() if message["type"] in ("ack", "error")]
