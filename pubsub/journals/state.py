"""The writing thread's knowledge of a durable topic. No I/O."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pubsub.journals.dedup import RecentIds
from pubsub.protocol.requests import TopicOptions

if TYPE_CHECKING:
    from pubsub.journals.store import TopicRow

CLEAN_UP_LEAST: Final = 1.0  # seconds between two clean-ups of a topic


class State(Struct):
    """See the module. ``first``: its oldest event on disk. ``size``: bytes of all its events from there on.

    ``clean_up_at``: the Unix time of the next search for expired events.
    """

    epoch: str
    options: TopicOptions
    seq: int
    first: int
    size: int
    seen: RecentIds | None
    clean_up_at: float

    @property
    def history(self) -> int:
        return self.options.history or 0

    @property
    def kept(self) -> int:
        """The number of events that the topic keeps. The disk may have more: those beyond its history go in groups."""
        return min(self.seq - self.first + 1, self.history)


def make_state(row: TopicRow, now: float) -> State:
    options = row.options
    seen = None if options.dedup_sec is None else RecentIds(row.name, options.dedup_sec)
    return State(row.epoch, options, row.seq, row.first, row.bytes, seen, next_clean_up(options, now))


def next_clean_up(options: TopicOptions, now: float) -> float:
    """The time of the next clean-up. Expired events are deleted a little later, so that few clean-ups find many."""
    times = [seconds for seconds in (options.ttl_sec, options.dedup_sec) if seconds is not None]
    return now + max(CLEAN_UP_LEAST, min(times) / 20) if times else inf
