"""The results of the writing thread, told on the loop: events are delivered and publishers answered, in order.

Many results are told in turns, so that a large group keeps no other client waiting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Final, cast

from pubsub.core.event import StoredEvent
from pubsub.core.journal import StoredTopic
from pubsub.journals.operations import Append, AppendAll, Create, Delete, Extent, Mark, Operation, Purge
from pubsub.journals.sizes import size_of
from pubsub.journals.topic_log import SqliteLog
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Publisher
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish

log = logging.getLogger(__name__)

TOLD_AT_ONCE: Final = 1000  # messages whose results are told in one turn: 2 ms
COSTS: Final[dict[type, int]] = {Create: 10, Delete: 10}  # in messages: a topic that begins or ends takes 10 to 20 µs


class Results:
    """See the module. ``defer`` runs a callback after other clients have been served.

    ``logs``: those of all topics, by number. ``pending_bytes``: of publishes whose results are not told yet.
    """

    host: Host

    def __init__(self, defer: Callable[[Callable[[], None]], object]) -> None:
        self.logs: dict[int, SqliteLog] = {}
        self.pending_bytes = 0
        self._defer = defer
        self._waiting: deque[Operation | list[Extent]] = deque()

    def __bool__(self) -> bool:
        """True if any results are not told yet."""
        return bool(self._waiting)

    def add(self, group: Sequence[Operation], extents: list[Extent]) -> None:
        """Tell the results of a group, then the extents of topics after it."""
        was_idle = not self._waiting
        self._waiting.extend(group)
        self._waiting.append(extents)
        if was_idle:
            self._tell_some()

    def log_fault(self) -> None:
        """Log the exception of one step of many."""
        log.exception("Internal error at the end of a group of the journal")

    def _tell_some(self) -> None:
        room = TOLD_AT_ONCE
        while self._waiting and room > 0:
            result = self._waiting[0]
            try:
                self._tell(result)
            except Exception:  # the others still get their outcome
                self.log_fault()
            self._waiting.popleft()
            room -= len(result.requests) if isinstance(result, Append | AppendAll) else COSTS.get(type(result), 1)
        if self._waiting:
            self._defer(self._tell_some)

    def _tell(self, result: Operation | list[Extent]) -> None:
        match result:
            case Append():
                self._tell_append(result)
            case AppendAll():
                self._tell_append_all(result)
            case Create():
                self._tell_create(result)
            case Purge():
                self._tell_purge(result)
            case Delete():
                self._tell_delete(result)
            case Mark():
                result.done()
            case list():
                self._tell_extents(result)

    def _tell_append(self, result: Append) -> None:
        self.pending_bytes -= size_of(result.requests)
        handle, publisher = _log_of(result), result.publisher
        handle.unsettled -= 1
        assert publisher is not None, "append was given one"
        if result.failure is not None:
            for request in result.requests:
                publisher.refused(request, result.failure)
            return
        told = 0
        for stored, outcomes in groupby(result.outcomes, lambda outcome: type(outcome) is StoredEvent):
            of_these = list(outcomes)
            requests = result.requests[told : told + len(of_these)]
            told += len(of_these)
            if stored:
                self._tell_stored(handle, requests, cast("list[StoredEvent]", of_these), publisher, result.ts)
                continue
            for request, outcome in zip(requests, of_these, strict=True):
                if isinstance(outcome, Failure):
                    publisher.refused(request, outcome)
                else:
                    assert isinstance(outcome, int), "events are told above"
                    publisher.repeated(request, outcome, result.ts)

    def _tell_stored(
        self, log: SqliteLog, requests: Sequence[Publish], events: list[StoredEvent], publisher: Publisher, ts: str
    ) -> None:
        self._deliver(self.host.deliver, log.topic, events)
        publisher.published(requests, events[0].seq, ts)

    def _deliver(
        self, deliver: Callable[[Topic, Sequence[StoredEvent]], None], topic: Topic, events: Sequence[StoredEvent]
    ) -> None:
        for event in events:
            if event.expires < inf:
                self.host.begin_to_expire(topic)
                break
        deliver(topic, events)

    def _tell_append_all(self, result: AppendAll) -> None:
        self.pending_bytes -= size_of(result.requests)
        handle = _log_of(result)
        handle.unsettled -= 1
        if result.failure is not None:
            result.done(result.failure)
            return
        self._deliver(self.host.deliver_all, handle.topic, result.events)
        result.done(result.assignments)

    def _tell_create(self, result: Create) -> None:
        if result.failure is None:
            handle = _log_of(result)
            self.logs[result.number] = handle
            handle.topic = self.host.add_topic(StoredTopic(handle.name, handle.epoch, handle.options, handle, first=1))
        result.done(result.failure)

    def _tell_delete(self, result: Delete) -> None:
        if result.failure is None:
            handle = self.logs.pop(result.log.number)
            self.host.remove_topic(handle.topic)
            del handle.topic  # the topic has this log: without the cycle their memory is free at once
        result.done(result.failure)

    def _tell_purge(self, result: Purge) -> None:
        if result.failure is not None:
            result.done(result.failure)
            return
        handle = _log_of(result)
        handle.purged = handle.topic.seq
        self.host.trim(handle.topic, handle.purged + 1, 0)
        self.host.forget(handle.topic, lambda _: None)
        result.done(result.count)

    def _tell_extents(self, extents: list[Extent]) -> None:
        for extent in extents:
            if handle := self.logs.get(extent.number):
                self.host.trim(handle.topic, extent.first, extent.size)


def _log_of(result: Append | AppendAll | Create | Purge) -> SqliteLog:
    assert isinstance(result.log, SqliteLog), "the loop's operations have the whole log"
    return result.log
