"""Plain counts, which grow where something happens and are shown elsewhere. No I/O."""

from __future__ import annotations


class MessageCount:
    """``messages``, and the ``bytes`` of their events."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0

    def add(self, messages: int, size: int) -> None:
        self.messages += messages
        self.bytes += size


class ArrivalCounts:
    """``moved`` and ``new``: connections that have subscribed, by their first subscription, from a position or not.

    ``resumes``: subscriptions that resumed, by ``recovered``: True if nothing was missing.
    """

    def __init__(self) -> None:
        self.moved = 0
        self.new = 0
        self.resumes = {True: 0, False: 0}

    def add(self, *, moved: bool) -> None:
        self.moved += moved
        self.new += not moved
