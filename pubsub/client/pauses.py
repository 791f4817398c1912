"""The pauses between attempts, with full jitter. It must never wait by itself."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_PAUSE_SEC: Final = 0.1


class Pauses:
    """Each pause is at random between 0 and a bound that doubles, up to ``longest``.

    Clients that were disconnected at the same moment do not come at the same moment again.
    """

    def __init__(self, random: Random, longest: float) -> None:
        self._random = random
        self._longest = longest
        self._bound = FIRST_PAUSE_SEC

    def next(self) -> float:
        pause = self._random.uniform(0, self._bound)
        self._bound = min(2 * self._bound, self._longest)
        return pause

    def reset(self) -> None:
        self._bound = FIRST_PAUSE_SEC
