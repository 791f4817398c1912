"""The line of the log about topics that go on in a new epoch: one for many, since a failover may renew all. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

log = logging.getLogger(__name__)

GATHERED: Final = 1.0  # seconds


class Renewals:
    """See the module. ``call_later`` is the timer."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._count = 0  # topics that the log does not have yet

    def note(self, name: str) -> None:
        """A topic goes on in a new epoch."""
        if not self._count:
            self._call_later(GATHERED, partial(self._tell, name))
        self._count += 1

    def _tell(self, name: str) -> None:
        log.warning(
            "Topics go on in a new epoch, because the engine may have lost messages: %(count)d, such as %(topic)s",
            {"count": self._count, "topic": name},
        )
        self._count = 0
