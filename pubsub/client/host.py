"""The surroundings that the rules of a client need: a way to send, a clock, timers, chance. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from pubsub.client.errors import PubsubError


class Timer(Protocol):
    def cancel(self) -> object: ...


class Host(Protocol):
    """One client's connection, as its Conversation sees it. No method calls the Conversation back before it returns."""

    random: Random

    def send(self, text: bytes) -> None:
        """Send one text message, in UTF-8, on the open connection. After the end of the connection it is ignored."""

    def drop(self, reason: str) -> None:
        """End the connection without a close handshake; ``closed`` comes later, with this reason."""

    def read(self) -> None:
        """Read on, if reading has paused: there is room, or an answer is awaited. ``send`` does the same."""

    def clock(self) -> float:
        """Return the seconds of a clock that is never set back."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` after ``delay`` seconds."""

    def report(self, error: PubsubError) -> None:
        """Tell of a trouble with which the connection goes on."""
