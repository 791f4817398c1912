"""Long work, split into pieces: one piece runs in a tick, and other clients are served between. No I/O.

Work with many steps, such as one for each member of a topic, does some of them and takes a turn for the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Turns:
    """A queue of pieces. ``defer`` runs a callback at the end of the tick; ``before`` is called before each piece."""

    def __init__(self, defer: Callable[[Callable[[], None]], object], before: Callable[[], None]) -> None:
        self._defer = defer
        self._before = before
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, work: Callable[[], None]) -> None:
        """Call ``work`` in a later tick, alone: callbacks of ``defer`` all run in the next tick.

        An exception of ``work`` is logged; the other pieces run all the same.
        """
        self._before()  # the caller has often done a first piece already
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._defer(self._work)

    def _work(self) -> None:
        self._before()
        try:
            self._waiting[0]()
        except Exception:
            log.exception("Internal error in work that had waited for its turn")
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._defer(self._work)
