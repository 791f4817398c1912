"""The pauses between attempts to connect. It must never wait by itself."""

import random
from collections.abc import Iterator
from typing import Final

FIRST_PAUSE_SEC: Final = 0.5
LONGEST_PAUSE_SEC: Final = 15.0


def pauses(longest: float = LONGEST_PAUSE_SEC) -> Iterator[float]:
    """Yield the seconds to wait before each attempt: doubling, and random so that clients do not connect in step."""
    pause = FIRST_PAUSE_SEC
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, longest)
