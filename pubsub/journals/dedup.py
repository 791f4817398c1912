"""Deduplication: the ids of messages that were published to a topic lately. No I/O; the clock is passed in."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

log = logging.getLogger(__name__)

MAX_IDS: Final = 1_000_000  # of one topic: about 200 MiB. Beyond it the oldest are removed, and a line is logged
# Expired ids that one search removes: it adds only one, so all are soon gone. A million at once would take 200 ms.
FORGOTTEN_AT_ONCE: Final = 100


SeenId = tuple[float, bytes, int]  # the end of its window, the id, the seq; a class takes 0.1 µs more for each publish


class RecentIds:
    """Ids of messages for ``window`` seconds each, with their ``seq``. ``topic`` is for the log."""

    __slots__ = ("_ids", "_limit", "_order", "_topic", "_warned", "_window")

    def __init__(self, topic: str, window: float, limit: int = MAX_IDS) -> None:
        self._topic = topic
        self._window = window
        self._limit = limit
        self._ids: dict[bytes, SeenId] = {}
        self._order: deque[SeenId] = deque()
        self._warned = False

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, key: bytes, now: float) -> int | None:
        """The ``seq`` of the message with this id; None if it is not known."""
        order, ids, most = self._order, self._ids, FORGOTTEN_AT_ONCE
        while order and order[0][0] <= now and most:
            self._forget_oldest()
            most -= 1
        seen = ids.get(key)
        return None if seen is None or seen[0] <= now else seen[2]

    def add(self, key: bytes, seq: int, now: float) -> float:
        """Add an id that :meth:`find` did not find; returns the end of its window."""
        end = now + self._window
        self.restore(key, seq, end)
        if len(self._ids) > self._limit:
            self._warn()
            self._forget_oldest()
        return end

    def restore(self, key: bytes, seq: int, end: float) -> None:
        """Add an id until ``end``. Ids must be restored in the order of their ends."""
        self._ids[key] = seen = (end, key, seq)
        self._order.append(seen)

    def _forget_oldest(self) -> None:
        seen = self._order.popleft()
        if self._ids.get(seen[1]) is seen:  # or it was added again after its window
            del self._ids[seen[1]]

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "More than %(limit)d ids within dedup_sec on topic %(topic)s: the oldest are forgotten",
                {"limit": self._limit, "topic": self._topic},
            )


def id_key(message_id: str) -> bytes:
    """A UUID as its 16 bytes: equal in either case, and half as large."""
    return bytes.fromhex(message_id.replace("-", ""))
