"""The spread of connections over workers: each goes to the worker that has the fewest. No I/O.

A worker that does not take what it is given, because it is busy or stopped, gets no more until it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

UNTAKEN: Final = 32  # connections that may be on their way to a worker
SILENT: Final = 3  # beats without an answer, after which a worker gets no connections


class Share:
    """The connections of one worker, counted from its start. ``open``: it is ready for some.

    ``unanswered``: the number of beats since its last answer, or since its start. ``trouble``: the reason for which it
    is degraded.
    """

    __slots__ = ("ended", "handed", "open", "received", "trouble", "unanswered")

    def __init__(self) -> None:
        self.handed = 0
        self.received = 0
        self.ended = 0
        self.open = False
        self.unanswered = 0
        self.trouble = ""

    @property
    def silent(self) -> bool:
        return self.unanswered > SILENT

    @property
    def present(self) -> int:
        """The connections that it has, and those on their way."""
        return self.handed - self.ended

    @property
    def takes(self) -> bool:
        return self.open and not self.silent and self.handed - self.received < UNTAKEN


def fewest_first(shares: Sequence[Share]) -> list[Share]:
    """The workers that take a connection, the one with the fewest first, and of equal ones that which had fewer."""
    return sorted([each for each in shares if each.takes], key=lambda each: (each.present, each.handed))
