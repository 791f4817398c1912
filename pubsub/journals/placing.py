"""The places of new messages in a topic: the ``seq`` of each, duplicates, and expectations that fail. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET, Struct

from pubsub.core.log import Assignment
from pubsub.journals.dedup import RecentIds, id_key
from pubsub.protocol.errors import Conflict
from pubsub.protocol.requests import Publish


class Places(Struct):
    """The places of a list of publishes. ``seq``: the topic's after them. ``ids``: the new ones, with their ``seq``."""

    assignments: list[Assignment]
    seq: int
    ids: dict[bytes, int]

    def new(self, requests: Sequence[Publish]) -> Iterator[tuple[Publish, int]]:
        """The publishes that are no duplicates, with their ``seq``."""
        for request, assignment in zip(requests, self.assignments, strict=True):
            if not assignment.duplicate:
                yield request, assignment.seq


def place_all(requests: Sequence[Publish], seq: int, seen: RecentIds | None, now: float) -> Places:
    """Place messages after ``seq``, one after the other, and change nothing. Raises Conflict.

    ``seen``: the topic's ids, None if it knows none. An id that the list repeats is a duplicate too.
    """
    places = Places([], seq, {})
    for item, request in enumerate(requests):
        if seen is not None:
            key = id_key(request.message.id)
            first = places.ids.get(key) or seen.find(key, now)
            if first is not None:
                places.assignments.append(Assignment(first, duplicate=True))
                continue
        if request.expect_seq is not UNSET and request.expect_seq != places.seq:
            raise Conflict(request.expect_seq, places.seq, item=item if len(requests) > 1 else None)
        places.seq += 1
        places.assignments.append(Assignment(places.seq, duplicate=False))
        if seen is not None:
            places.ids[key] = places.seq
    return places


def remember(places: Places, seen: RecentIds, now: float) -> list[tuple[bytes, int, float]]:
    """Add the new ids; returns each with its ``seq`` and the end of its window."""
    return [(key, seq, seen.add(key, seq, now)) for key, seq in places.ids.items()]
