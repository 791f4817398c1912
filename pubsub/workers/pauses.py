"""The pauses before a worker that has died is started again: they grow, so that a fault of each start costs little."""

from __future__ import annotations

from typing import Final

FIRST: Final = 0.1  # seconds
LONGEST: Final = 30.0
STEADY: Final = 60.0  # a worker that served for so long begins with the first pause again


class Pauses:
    """The pauses of one worker."""

    def __init__(self) -> None:
        self._next = FIRST

    def after(self, served: float) -> float:
        """The pause after a worker that served for so many seconds."""
        if served >= STEADY:
            self._next = FIRST
        pause, self._next = self._next, min(2 * self._next, LONGEST)
        return pause
