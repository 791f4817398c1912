"""Deduplication: the ids of messages that were published to a topic lately. No I/O; the clock is passed in."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

log = logging.getLogger(__name__)

MAX_IDS: Final = 1_000_000  # of one topic: about 200 MiB. Beyond it the oldest are removed, and a line is logged


class RecentIds:
    """Ids of messages for ``window`` seconds each, with their ``seq``. ``topic`` is for the log."""

    __slots__ = ("_limit", "_order", "_seqs", "_topic", "_warned", "_window")

    def __init__(self, topic: str, window: float, limit: int = MAX_IDS) -> None:
        self._topic = topic
        self._window = window
        self._limit = limit
        self._seqs: dict[bytes, int] = {}
        self._order: deque[tuple[float, bytes]] = deque()  # the end of each window
        self._warned = False

    def __len__(self) -> int:
        return len(self._seqs)

    def find(self, key: bytes, now: float) -> int | None:
        """The ``seq`` of the message with this id; None if it is not known."""
        while self._order and self._order[0][0] <= now:
            del self._seqs[self._order.popleft()[1]]
        return self._seqs.get(key)

    def add(self, key: bytes, seq: int, now: float) -> float:
        """Add an id that :meth:`find` did not find; returns the end of its window."""
        end = now + self._window
        self.restore(key, seq, end)
        if len(self._seqs) > self._limit:
            self._forget_oldest()
        return end

    def restore(self, key: bytes, seq: int, end: float) -> None:
        """Add an id until ``end``. Ids must be restored in the order of their ends."""
        self._seqs[key] = seq
        self._order.append((end, key))

    def _forget_oldest(self) -> None:
        del self._seqs[self._order.popleft()[1]]
        if not self._warned:
            self._warned = True
            log.warning(
                "More than %(limit)d ids within dedup_sec on topic %(topic)s: the oldest are forgotten",
                {"limit": self._limit, "topic": self._topic},
            )


def id_key(message_id: str) -> bytes:
    """A UUID as its 16 bytes: equal in either case, and half as large."""
    return bytes.fromhex(message_id.replace("-", ""))
