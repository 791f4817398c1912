"""A plain count of messages, which grows where they pass and is shown elsewhere. No I/O."""

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
