"""The journal of topics that several servers share: an engine orders and keeps all messages. No I/O.

What this server asks goes to the engine in one batch for each tick (``asking``); what the engine tells is applied to
the host (``following``). An engine that is away refuses publishes after a time, and no subscriber is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pubsub.core.clock import Clock
from pubsub.core.journal import JournalMeasures, random_epoch
from pubsub.journals.shared.asking import Asking
from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Deleted,
    Engine,
    Outcome,
    Purged,
    Record,
    State,
    Tell,
    Told,
)
from pubsub.journals.shared.following import Following
from pubsub.journals.shared.freshness import Freshness
from pubsub.journals.shared.inbox import Inbox
from pubsub.journals.shared.log import LogParts, SharedLog
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Done
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import TopicOptions

TOLD_BYTES: Final = 100  # of messages of other servers, which take as long as a topic that begins: 5 counts
COMPARED_AT_ONCE: Final = 2000  # topics that are compared with those of the engine in one turn: 2 to 3 ms

Found = TypeVar("Found")
Hear = Callable[[str, bytes], None]


class SharedJournal:
    """See the module (Journal, Sharing; Follower of its engine).

    ``wait``: seconds after which an operation without an outcome is refused. ``most``: the limit for topics, 0 is none.
    ``synced_once``: the topics of the engine, or of a part of it, are known.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        wait: float,
        most: int = 0,
        new_epoch: Callable[[], str] = random_epoch,
    ) -> None:
        self.synced_once = False
        self.engine = engine
        self._clock = clock
        self._defer = defer
        self._most = most
        self._new_epoch = new_epoch
        self._inbox = Inbox(defer)
        self._asking = Asking(engine, self._inbox, defer=defer, call_later=call_later, now=clock.monotonic, wait=wait)
        self._following = Following(
            engine,
            make_log=self._make_log,
            compare=self._compare,
            spend=self._inbox.spend,
            call_later=call_later,
        )
        self._freshness = Freshness(engine, self._inbox.take, self._following.healing, defer, call_later, wait)
        self._parts = LogParts(self._asking, engine, self.sync, clock, self._begin_to_expire)
        self._hearers: dict[str, Hear] = {}

    @property
    def server(self) -> str:
        """The id of this server among those of the engine."""
        return self.engine.server

    # Journal

    def attach(self, host: Host) -> None:
        self._following.host = host

    def restore(self) -> None:
        """The engine tells of its topics by itself."""

    @property
    def failure(self) -> str:
        return self._asking.failure

    @property
    def measures(self) -> JournalMeasures:
        asking = self._asking
        return JournalMeasures(asking.times, asking.failures, asking.telling.pending_bytes, ())

    @property
    def full(self) -> bool:
        return self._asking.full

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self._asking.call_when_writable(callback)

    def call_after(self, callback: Callable[[], None]) -> None:
        self._asking.call_after(callback)

    def close(self) -> None:
        pass

    def create(self, name: str, options: TopicOptions, done: Done) -> SharedLog:
        log = self._following.coming[name] = self._make_log(name, self._new_epoch(), options)
        self._asking.add(Create(name, log.epoch, options, self._most), partial(self._end_creation, log, done))
        return log

    def _end_creation(self, log: SharedLog, done: Done, outcome: Outcome) -> None:
        if outcome is None and log.name not in self._following.logs:
            # The record is lost, or another server has deleted the topic since.
            self._compare(log, partial(self._end_comparison, log, done))
        else:
            self._finish_creation(log, done, outcome)

    def _end_comparison(self, log: SharedLog, done: Done, outcome: Outcome) -> None:
        if not isinstance(outcome, Failure) and log.name not in self._following.logs:
            self._following.state(State(log.name, log.epoch, log.options))
        self._finish_creation(log, done, outcome)

    def _finish_creation(self, log: SharedLog, done: Done, outcome: Outcome) -> None:
        if self._following.coming.get(log.name) is log:
            del self._following.coming[log.name]
        done(outcome if isinstance(outcome, Failure) else None)

    def _make_log(self, name: str, epoch: str, options: TopicOptions) -> SharedLog:
        return SharedLog(name, epoch, options, self._parts)

    def _begin_to_expire(self, topic: Topic) -> None:
        self._following.host.begin_to_expire(topic)

    def _compare(self, log: SharedLog, done: Callable[[Outcome], None] | None = None) -> None:
        """Let the engine compare a topic with what is known of it."""
        self._asking.add(Append(log.known, (), self._clock.timestamp(), "", (), False), done)

    # Sharing

    def sync(self, done: Done) -> None:
        if self._asking.hopeless:
            self._freshness.refuse(done)
        else:
            self._freshness.sync(done)

    def bound(self, done: Callable[[Found | Failure], None]) -> Callable[[Found | Failure], None]:
        return self._freshness.bound(done)

    def call_when_applied(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once all that the engine has told so far is applied."""
        self._inbox.take(callback)

    # Messages among the servers

    def tell(self, kind: str, data: bytes) -> None:
        """Send a message to all servers, this one too. It may be lost."""
        self._asking.add(Tell(kind, data))

    def hear(self, kind: str, callback: Hear) -> None:
        """Call ``callback(server, data)`` with all messages of this kind."""
        self._hearers[kind] = callback

    # Follower

    def apply(self, record: Record) -> None:
        if self._inbox.busy:
            self._inbox.take(partial(self._apply, record))
        else:
            self._apply(record)

    def _apply(self, record: Record) -> None:
        match record:
            case Appended():
                self._following.append(record)
            case State():
                self._following.state(record)
            case Deleted():
                self._following.delete(record)
            case Purged():
                self._following.purge(record)
            case Told():
                if (hear := self._hearers.get(record.kind)) is not None:
                    self._inbox.spend(len(record.data) // TOLD_BYTES)
                    hear(record.server, record.data)

    def synced(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        self._inbox.take(partial(self._end_sync, names, holds))

    def _end_sync(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        self.synced_once = True
        self._asking.note_answer()
        self._remove_missing(deque(self._following.logs.values()), names, holds)

    def _remove_missing(self, logs: deque[SharedLog], names: Collection[str], holds: Callable[[str], bool]) -> None:
        """Remove the topics that the engine does not have, in slices."""
        for _ in range(min(len(logs), COMPARED_AT_ONCE)):
            log = logs.popleft()
            if self._inbox.exhausted:
                logs.appendleft(log)
                break
            if log.name not in names and holds(log.name) and self._following.logs.get(log.name) is log:
                self._following.remove(log)
        if logs:
            self._inbox.go_on_with(partial(self._remove_missing, logs, names, holds))

    def failing(self, reason: str, *, partly: bool = False) -> None:
        self._inbox.take(partial(self._asking.fail, reason, partly=partly))
