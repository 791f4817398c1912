"""Records of the engine, applied to the host: every event of every topic comes this way. No I/O.

Nothing of it is assumed to be whole: a ``seq`` that jumps, a state that is ahead, an epoch that is another are healed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from pubsub.core.event import BATCH_BYTES, StoredEvent
from pubsub.core.journal import StoredTopic
from pubsub.core.renewal import TOLD
from pubsub.journals.shared.engine import Appended, Deleted, Engine, Purged, State
from pubsub.journals.shared.healing import Healing
from pubsub.journals.shared.renewals import Renewals

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.topic import Topic
    from pubsub.journals.shared.log import SharedLog
    from pubsub.protocol.requests import TopicOptions

MANY: Final = 8  # events whose size is looked at, before they are delivered in one step


class Following:
    """See the module. ``make_log`` makes the log of a topic; ``compare(log)`` asks the engine to compare a topic.
    ``spend`` is called for each topic that begins or ends, with its cost: 1 is 10 to 20 µs.

    ``logs``: those of all topics, by name. ``coming``: of topics that this server is creating.
    """

    host: Host

    def __init__(
        self,
        engine: Engine,
        *,
        make_log: Callable[[str, str, TopicOptions], SharedLog],
        compare: Callable[[SharedLog], None],
        spend: Callable[[int], None],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.logs: dict[str, SharedLog] = {}
        self.coming: dict[str, SharedLog] = {}
        self.healing = Healing(engine, self._take_page, self._trim, call_later)
        self._make_log = make_log
        self._compare = compare
        self._spend = spend
        self._renewals = Renewals(call_later)

    # Messages

    def append(self, record: Appended) -> None:
        """Deliver new events, unless something is missing before them."""
        events = record.events
        first = events[0].seq
        topic = self._place(record, first, events[-1].seq)
        if topic is not None:
            self._deliver(topic, events if first > topic.seq else events[topic.seq + 1 - first :])
            self.host.trim(topic, record.kept, record.size)

    def _place(self, record: Appended, first: int, last: int) -> Topic | None:
        """The topic, if the record goes on where it ends, or before: some of it may have come with a state."""
        log = self.logs.get(record.name)
        if log is None or log.epoch != record.epoch:
            return None  # the record of that is lost; the next state of the topic heals it
        topic = log.topic
        assert topic is not None, "it is among the topics"
        log.first, log.size = record.kept, record.size
        if log in self.healing or first > topic.seq + 1:
            self.healing.heal(log, last)
            return None
        return topic if last > topic.seq else None

    def _deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        if not topic.expiring:
            for event in events:
                if event.expires < inf:
                    self.host.begin_to_expire(topic)
                    break
        if len(events) > MANY and sum(len(event.text) for event in events) > BATCH_BYTES:
            self.host.deliver_all(topic, events)
        else:
            self.host.deliver(topic, events)

    def _take_page(self, log: SharedLog, events: Sequence[StoredEvent], until: int) -> None:
        """Deliver what was missed, and tell what is gone."""
        topic = log.topic
        assert topic is not None, "it is being healed"
        run: list[StoredEvent] = []
        for event in events:
            if event.seq <= max(topic.seq, log.purged):
                continue
            if event.seq > (run[-1].seq if run else topic.seq) + 1:
                self._end_run(topic, run)
                if self._skip(log, topic, event.seq - 1):
                    return
                run = []
            run.append(event)
        self._end_run(topic, run)
        if until > topic.seq:
            self._skip(log, topic, until)

    def _skip(self, log: SharedLog, topic: Topic, until: int) -> bool:
        """Tell that events are lost. Returns True if nothing may be delivered before all members know."""
        self.host.skip(topic, until)
        return self._hold(log, topic)

    def _hold(self, log: SharedLog, topic: Topic) -> bool:
        """Deliver nothing before all members know where the topic goes on. Returns False if they do."""
        if not self.host.call_when_told(topic, partial(self.healing.release, log)):
            return False
        self.healing.hold(log)
        return True

    def _end_run(self, topic: Topic, run: list[StoredEvent]) -> None:
        if run:
            self._deliver(topic, run)

    def _trim(self, log: SharedLog) -> None:
        """Tell the host what the engine keeps, as far as it has come here."""
        assert log.topic is not None, "it is among the topics"
        self.host.trim(log.topic, min(log.first, log.topic.seq + 1), log.size)

    def purge(self, record: Purged) -> None:
        log = self.logs.get(record.name)
        if log is None or log.epoch != record.epoch:
            return
        assert log.topic is not None, "it is among the topics"
        log.purged = max(log.purged, record.seq)
        log.first, log.size = max(log.first, record.seq + 1), 0
        self._trim(log)
        self.host.forget(log.topic, lambda _: None)

    # Topics

    def state(self, state: State) -> None:
        """Add a topic, or compare it with what is known."""
        log = self.logs.get(state.name)
        if log is None:
            self._add(state)
        elif log.epoch == state.epoch:
            self._compare_with(log, state)
        elif state.renewed:
            self._renew(log, state)
        else:
            self.remove(log)
            self._add(state)

    def _add(self, state: State) -> None:
        self._spend(1)
        log = self.coming.pop(state.name, None) or self._make_log(state.name, state.epoch, state.options)
        log.epoch, log.options, log.target = state.epoch, state.options, state.seq
        log.first, log.size = state.first, state.size
        self.logs[state.name] = log
        log.topic = self.host.add_topic(_stored(log, state.seq))

    def _compare_with(self, log: SharedLog, state: State) -> None:
        assert log.topic is not None, "it is among the topics"
        log.first, log.size = state.first, state.size
        if state.seq < log.seq:
            self._compare(log)  # the engine has lost messages: it begins a new epoch when it is told of them
        elif state.seq > log.topic.seq:
            self.healing.heal(log, state.seq)
        else:
            self._trim(log)

    def _renew(self, log: SharedLog, state: State) -> None:
        """Go on in a new epoch, with the first message that may be another than in the old one."""
        assert log.topic is not None, "it is among the topics"
        self._spend(1 + min(log.topic.subscribers, TOLD) // 2)  # 8 µs for each of those who are told now
        self.healing.stop(log)
        one_step = state.before in ("", log.epoch)  # otherwise the epochs between began nobody knows where
        start = min(log.topic.seq, state.base) if one_step else 0
        log.epoch, log.target, log.purged = state.epoch, state.seq, 0
        log.first, log.size = state.first, state.size
        log.topic = self.host.renew(log.topic, _stored(log, start))
        self._renewals.note(log.name)
        self._hold(log, log.topic)
        if state.seq > start:
            self.healing.heal(log, state.seq)

    def delete(self, record: Deleted) -> None:
        log = self.logs.get(record.name)
        if log is not None and log.epoch == record.epoch:
            self.remove(log)

    def remove(self, log: SharedLog) -> None:
        """Remove a topic that is gone."""
        self._spend(1)
        self.healing.stop(log)
        topic = log.topic
        assert topic is not None, "it is among the topics"
        del self.logs[log.name]
        log.topic = None  # the topic has this log: without the cycle their memory is free at once
        self.host.remove_topic(topic)


def _stored(log: SharedLog, seq: int) -> StoredTopic:
    return StoredTopic(log.name, log.epoch, log.options, log, seq=seq, first=min(log.first, seq + 1), size=log.size)
