"""The compression of what lanes deliver: each message is deflated once for all clients with the same window.

Answers, infos and replays stay plain: they are for one client alone. It must keep nothing for a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from pubsub.core.backlog import OutboxOptions
from pubsub.core.event import Source, StoredEvent, WebSocketText
from pubsub.protocol.deflate import TAIL, Deflater, deflated_frame
from pubsub.protocol.frames import text_frame

MOST: Final = 256 * 1024  # bytes of a text; a longer one stays plain, because it would take more than 5 ms


class DeflatedText(WebSocketText):
    """Each event of a lane is one deflated text frame, if it has ``least`` bytes and becomes smaller."""

    def __init__(self, window: int, least: int) -> None:
        self._deflater = Deflater(window)
        self._least = least

    def shared_events(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        return b"".join([self._frame(event.text) for event in events])

    def _frame(self, text: bytes) -> bytes:
        if self._least <= len(text) <= MOST:
            deflated = self._deflater.deflate(text).removesuffix(TAIL)
            if len(deflated) < len(text):
                return deflated_frame(deflated)
        return text_frame(text)


class Compression:
    """The outboxes of clients that have agreed on a window, and one DeflatedText for each window in use."""

    def __init__(self, plain: OutboxOptions, least: int) -> None:
        self._plain = plain
        self.least = least
        self._by_window: dict[int, OutboxOptions] = {}

    def options(self, window: int) -> OutboxOptions:
        """The options for a window of so many bits."""
        if window not in self._by_window:
            encoding = DeflatedText(window, self.least)
            self._by_window[window] = structs.replace(self._plain, encoding=encoding)
        return self._by_window[window]
