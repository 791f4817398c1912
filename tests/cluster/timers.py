"""Time that a test moves: timers, and turns that run at once after each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

STEP: Final = 0.005  # seconds


class Timers:
    """``now`` is monotonic, in seconds. ``between`` is called after each step."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self.now = 1000.0
        self.between = between
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._count += 1
        self._timers.append((self.now + delay, self._count, callback))

    def take_turn(self, work: Callable[[], None]) -> None:
        self.call_later(0, work)

    def pass_time(self, seconds: float) -> None:
        """Run what is due, in order, up to this time."""
        end = self.now + seconds
        self.between()
        while due := [timer for timer in self._timers if timer[0] <= end]:
            first = min(due)
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            first[2]()
            self.between()
        self.now = end
