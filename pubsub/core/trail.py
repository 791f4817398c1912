"""The trail of one subscriber: the events that it lost, and its memberships that have ended. No I/O.

It is made when there is something to remember, so that an idle subscriber has none. It is bounded: of what does not fit
it knows that it is not known any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NewType

from msgspec import Struct

from pubsub.core.losses import Loss

if TYPE_CHECKING:
    from weakref import ReferenceType

    from pubsub.core.event import Source
    from pubsub.filters.filters import Matcher

MOST: Final = 32  # losses, stays, and topics of which something was forgotten: 4 KiB each

Since = NewType("Since", int)
TopicLife = tuple[str, str]  # name and epoch

_SECONDS: Final = 32  # bits of a Unix time


@lru_cache(maxsize=1)
def since(after: int, moment: int) -> Since:
    """The beginning of a membership: the ``seq`` after which it gets events, and the Unix time.

    One number, because each membership has one: 32 to 48 bytes, and two would take 100. Those that begin in the same
    second, as after a restart of the server, share it.
    """
    return Since(after << _SECONDS | moment)


def after_of(beginning: Since) -> int:
    return beginning >> _SECONDS


def moment_of(beginning: Since) -> int:
    return beginning & (1 << _SECONDS) - 1


class Lost(Struct, frozen=True):
    """Events that a subscriber did not get. ``reason`` is None if they were gone when they were to be replayed."""

    topic: TopicLife
    from_seq: int
    to_seq: int
    count: int
    reason: Loss | None


class Stay(Struct, frozen=True):
    """A membership that has ended: all events after ``since`` and up to ``until`` that matched came, or were lost.

    ``filter``: None if there was none; it is not kept alive. ``certain`` is False if several subscriptions with filters
    of their own had a part in it. ``left``: the connection ended.
    """

    topic: TopicLife
    since: Since
    until: int
    filter: ReferenceType[Matcher] | None
    certain: bool
    left: bool

    def covers(self, seq: int) -> bool:
        return after_of(self.since) < seq <= self.until


def life_of(topic: Source) -> TopicLife:
    return topic.name, topic.epoch


class Trail:
    """See the module. ``forgotten_all``: it remembers nothing any more."""

    __slots__ = ("_forgotten", "_losses", "_stays", "forgotten_all")

    def __init__(self) -> None:
        self._losses: list[Lost] = []
        self._stays: list[Stay] = []
        self._forgotten: dict[TopicLife, int] | None = None  # up to this seq something is not known any more
        self.forgotten_all = False

    def lose(self, topic: Source, from_seq: int, to_seq: int, count: int, reason: Loss | None) -> None:
        """Remember a loss. One that follows the last loss is a part of it."""
        life = life_of(topic)
        if self._losses:
            last = self._losses[-1]
            if (last.topic, last.reason, last.to_seq + 1) == (life, reason, from_seq):
                self._losses[-1] = Lost(life, last.from_seq, to_seq, last.count + count, reason)
                return
        self._losses.append(Lost(life, from_seq, to_seq, count, reason))
        if len(self._losses) > MOST:
            oldest = self._losses.pop(0)
            self._forget(oldest.topic, oldest.to_seq)

    def leave(self, stay: Stay) -> None:
        """Remember a membership that has ended, if a message can belong to it."""
        if not stay.left and after_of(stay.since) >= stay.until:
            return
        self._stays.append(stay)
        if len(self._stays) > MOST:
            oldest = self._stays.pop(0)
            self._forget(oldest.topic, oldest.until)

    def loss_of(self, topic: Source, seq: int) -> Lost | None:
        """The loss of which an event was a part, if it matched. Losses of known reason come first."""
        life = life_of(topic)
        found = [each for each in self._losses if each.topic == life and each.from_seq <= seq <= each.to_seq]
        return min(found, key=lambda each: each.to_seq - each.from_seq, default=None)

    def stays_in(self, topic: Source) -> Iterator[Stay]:
        """The memberships in this life of a topic that have ended, oldest first."""
        life = life_of(topic)
        return (stay for stay in self._stays if stay.topic == life)

    def forgot(self, topic: Source, seq: int) -> bool:
        """True if something is not known any more about events up to this one."""
        return self.forgotten_all or (self._forgotten or {}).get(life_of(topic), 0) >= seq

    def _forget(self, topic: TopicLife, seq: int) -> None:
        if self._forgotten is None:
            self._forgotten = {}
        self._forgotten[topic] = max(seq, self._forgotten.get(topic, 0))
        self.forgotten_all = self.forgotten_all or len(self._forgotten) > MOST

    def forget_all(self) -> None:
        """Remember nothing from now on: it would be too much."""
        self.forgotten_all = True
