"""Work that takes long, one piece of it in a tick: what others have sent is served in between. No I/O.

What has many steps, one for each member of a topic or each message of a replay, does some of them and takes a turn
for the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Turns:
    """``defer`` runs a callback at the end of the tick; ``before`` is called before each piece of work."""

    def __init__(self, defer: Callable[[Callable[[], None]], object], before: Callable[[], None]) -> None:
        self._defer = defer
        self._before = before
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, work: Callable[[], None]) -> None:
        """Call ``work`` in a tick of its own. Calls of ``defer`` are all made in the next one.

        An exception that it raises is logged and costs the other pieces nothing.
        """
        self._before()  # here too: the caller has often served some of the same already
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
