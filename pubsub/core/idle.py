"""Deletion of topics that nobody uses, where a rule says so. No I/O.

A topic is in use while it has a subscriber, and at each publish. Neither costs anything here: each topic is checked
twice in its ``delete_idle_sec``, and the check compares it with its state at the check before. A topic is deleted when
it has not changed for ``delete_idle_sec`` since a check: at the earliest that long after its last use, and at the
latest 1.5 times that long and half a second after it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import UNSET, Struct

from pubsub.core.topic import Topic
from pubsub.core.topic_rules import TopicRules
from pubsub.protocol.errors import Failure, TopicNotFound

TICK: Final = 0.1  # seconds; a check is at most two of them late
CHECKED: Final = 100  # topics that are checked in one turn: 0.1 ms, or 2 if all are deleted
REVIEWED: Final = 500  # topics to which changed rules are applied in one turn: about 2 ms
DELETING: Final = 100  # deletions that may wait for the disk at a time: a publish may have to wait for their commit


class Watch(Struct, gc=False):
    """A topic's state at its last check, and the tick of the next one. ``since``: the state is not older than that.

    ``noted``: the last check that saw a use, at first the beginning.
    """

    delay: float
    since: float
    noted: float
    seq: int
    uses: int
    subscribed: bool
    tick: int = 0

    def sees_use(self, topic: Topic) -> bool:
        """Compare the topic with its state at the last check, and take its present state."""
        used = self.differs(topic)
        self.seq, self.uses, self.subscribed = topic.seq, topic.uses, topic.subscribers > 0
        return used

    def differs(self, topic: Topic) -> bool:
        """True if the topic is used, or was since the last check."""
        if topic.subscribers or topic.log.appending:
            return True
        return (self.seq, self.uses, self.subscribed) != (topic.seq, topic.uses, False)


class IdleTopics:
    """See the module. All topics share one timer, which runs if there are any.

    ``remove`` ends a topic at once, before its journal deletes it: its next use creates it again. ``put_back`` adds it
    again, if the journal could not delete it. ``now`` is monotonic, in seconds. ``take_turn(work)`` calls ``work`` in a
    later tick of the loop. ``others(topic, then)`` calls ``then`` with True if another server uses the topic; None if
    this one is alone.
    """

    def __init__(
        self,
        rules: TopicRules,
        *,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        take_turn: Callable[[Callable[[], None]], None],
        remove: Callable[[Topic], None],
        put_back: Callable[[Topic], None],
    ) -> None:
        self._rules = rules
        self._now = now
        self._call_later = call_later
        self._take_turn = take_turn
        self._remove = remove
        self._put_back = put_back
        self.others: Callable[[Topic, Callable[[bool], None]], None] | None = None
        self._watches: dict[Topic, Watch] = {}
        self._wheel: dict[int, dict[Topic, None]] = {}  # by tick: the topics whose check is due then
        self._leaving: set[str] = set()  # topics that are gone here, and may still be there in their journal
        self._unreviewed: dict[Topic, None] = {}  # topics to which changed rules do not apply yet
        self._due: deque[int] = deque()  # ticks with topics that are to be checked now
        self._ticks_done = 0
        self._ticking = self._checking = self._stopped = False
        self._deleting = 0

    def watch(self, topic: Topic) -> None:
        """Delete the topic when it is idle, if its rule says so."""
        delay = self._rules.find(topic.name).delete_idle_sec
        if delay is UNSET or self._stopped:
            return
        now = self._now()
        self._watches[topic] = watch = Watch(delay, now, now, topic.seq, topic.uses, topic.subscribers > 0)
        if not self._ticking:
            self._ticking = True
            self._ticks_done = int(now / TICK)
            self._call_later(TICK, self._tick)
        self._schedule(topic, watch, now)

    def review(self, topics: Sequence[Topic]) -> None:
        """Apply changed rules to all topics, in turns. A topic counts as used at its turn."""
        reviewing = bool(self._unreviewed)
        self._unreviewed = dict.fromkeys(topics)
        if self._unreviewed and not reviewing:
            self._take_turn(self._review_some)

    def _review_some(self) -> None:
        for _ in range(min(REVIEWED, len(self._unreviewed))):
            topic, _ = self._unreviewed.popitem()
            self.forget(topic)
            self.watch(topic)
        if self._unreviewed:
            self._take_turn(self._review_some)

    def forget(self, topic: Topic) -> None:
        """The topic is gone."""
        self._leaving.discard(topic.name)
        self._unreviewed.pop(topic, None)
        if (watch := self._watches.pop(topic, None)) is not None:
            self._unschedule(topic, watch)

    def stop(self) -> None:
        """Delete nothing any more."""
        self._stopped = True
        self._watches, self._wheel, self._unreviewed = {}, {}, {}
        self._due.clear()

    def _schedule(self, topic: Topic, watch: Watch, now: float) -> None:
        due = min(now + watch.delay / 2, watch.since + watch.delay)
        watch.tick = max(math.ceil(due / TICK), self._ticks_done + 1)
        self._wheel.setdefault(watch.tick, {})[topic] = None

    def _unschedule(self, topic: Topic, watch: Watch) -> None:
        if (slot := self._wheel.get(watch.tick)) is not None:
            slot.pop(topic, None)
            if not slot:
                del self._wheel[watch.tick]

    def _tick(self) -> None:
        self._ticking = bool(self._watches)
        if self._ticking:
            self._call_later(TICK, self._tick)
        present = int(self._now() / TICK)
        while self._ticks_done < present:
            self._ticks_done += 1
            if self._ticks_done in self._wheel:
                self._due.append(self._ticks_done)
        self._begin_to_check()

    def _begin_to_check(self) -> None:
        if self._due and not self._checking and self._deleting < DELETING:
            self._checking = True
            self._take_turn(self._check_some)

    def _check_some(self) -> None:
        """Check some of the topics that are due, in turns: they may be many."""
        self._checking = False
        now = self._now()
        room = CHECKED
        while self._due and room and self._deleting < DELETING:
            if slot := self._wheel.get(self._due[0]):
                room -= 1
                topic, _ = slot.popitem()  # no copy: there may be 100,000
                self._check(topic, self._watches[topic], now)
            else:
                self._wheel.pop(self._due.popleft(), None)
        self._begin_to_check()

    def _check(self, topic: Topic, watch: Watch, now: float) -> None:
        if watch.sees_use(topic):
            watch.since = watch.noted = now
        elif now >= watch.since + watch.delay:
            self._deleting += 1
            if self.others is None:
                self._delete(topic)
            else:
                self.others(topic, partial(self._heed_others, topic, watch))
            return
        self._schedule(topic, watch, now)

    def is_leaving(self, topic: Topic) -> bool:
        """True if the topic is gone here for being idle, and its journal has not answered yet."""
        return topic.name in self._leaving

    def is_used(self, topic: Topic) -> bool:
        """True if the topic has a subscriber, or was used since the check before the last one.

        Longer would be too long: the server that asks saw the last publish up to half the time earlier than this one.
        """
        watch = self._watches.get(topic)
        if watch is None:
            return topic.subscribers > 0
        return watch.differs(topic) or self._now() < watch.noted + watch.delay / 2

    def _heed_others(self, topic: Topic, watch: Watch, used: bool) -> None:
        if self._watches.get(topic) is not watch:  # the topic is gone, or has another rule
            self._deleting -= 1
        elif used or watch.sees_use(topic):
            self._deleting -= 1
            watch.since = self._now()
            self._schedule(topic, watch, watch.since)
        else:
            self._delete(topic)
        self._begin_to_check()

    def _delete(self, topic: Topic) -> None:
        self._remove(topic)
        self._leaving.add(topic.name)
        topic.log.delete(partial(self._end_deletion, topic), topic.seq)  # another server may publish just now

    def _end_deletion(self, topic: Topic, failure: Failure | None) -> None:
        self._deleting -= 1
        if topic.name in self._leaving:
            self._leaving.discard(topic.name)
            refused = failure is not None and not isinstance(failure, TopicNotFound)
            if refused or topic.latest is not topic:  # a later life of it has come meanwhile, and is not deleted
                self._put_back(topic)
        self._begin_to_check()
