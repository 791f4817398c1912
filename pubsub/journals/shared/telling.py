"""Outcomes of operations, told to those who wait for them: in order, and in turns if they are many. No I/O."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from pubsub.core.log import Assignment
from pubsub.journals.shared.engine import Outcome
from pubsub.journals.shared.gathering import Batch, Entry, Other, Publishes
from pubsub.protocol.errors import Failure

log = logging.getLogger(__name__)

TOLD_AT_ONCE: Final = 1000  # messages whose outcomes are told in one turn: 2 ms


class Telling:
    """See the module. ``defer`` calls a callback after other clients have been served.

    ``pending_bytes``: of publishes whose outcomes are not told yet; who adds publishes adds theirs.
    """

    def __init__(self, defer: Callable[[Callable[[], None]], object]) -> None:
        self.pending_bytes = 0
        self._defer = defer
        self._waiting: deque[tuple[Entry, Outcome]] = deque()

    def __bool__(self) -> bool:
        """True if any outcomes are not told yet."""
        return bool(self._waiting)

    def tell(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Tell the outcomes of a batch, one for each operation."""
        was_idle = not self._waiting
        for entry in batch.entries:
            self._waiting.append((entry, outcomes[entry.operation] if entry.operation >= 0 else None))
        if was_idle and self._waiting:
            self._tell_some()

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after all outcomes that are known so far."""
        self._waiting.append((Other(-1, lambda _: callback()), None))

    def _tell_some(self) -> None:
        waiting, room = self._waiting, TOLD_AT_ONCE
        while waiting and room > 0:
            entry, outcome = waiting[0]
            try:
                self._tell(entry, outcome)
            except Exception:  # the others still get their outcome
                log.exception("Internal error at the end of an operation of the journal")
            waiting.popleft()
            room -= 1 if isinstance(entry, Other) else len(entry.requests)
        if waiting:
            self._defer(self._tell_some)

    def _tell(self, entry: Entry, outcome: Any) -> None:
        if isinstance(entry, Other):
            entry.done(outcome)
            return
        self.pending_bytes -= entry.size
        entry.log.unsettled -= 1
        if isinstance(entry, Publishes):
            tell_publishes(entry, outcome)
        else:
            entry.done(outcome)


def tell_publishes(entry: Publishes, outcome: Sequence[Assignment | Failure] | Failure) -> None:
    """Tell a publisher the outcomes of its publishes: those that follow each other in the topic together."""
    publisher, requests = entry.publisher, entry.requests
    if isinstance(outcome, Failure):
        for request in requests:
            publisher.refused(request, outcome)
        return
    if len(requests) == 1:  # most of the time, and the rest of this function would cost 1 µs
        place = outcome[entry.offset]
        if type(place) is Assignment and not place.duplicate:
            publisher.published(requests, place.seq, entry.ts)
            return
    first = begun = 0  # the seq of the first of a run, and its place among the requests
    count = 0
    for index, place in enumerate(outcome[entry.offset : entry.offset + len(requests)]):
        if type(place) is Assignment and not place.duplicate:
            if count and place.seq == first + count:
                count += 1
                continue
            _end_run(entry, begun, count, first)
            first, begun, count = place.seq, index, 1
            continue
        _end_run(entry, begun, count, first)
        count = 0
        if isinstance(place, Failure):
            publisher.refused(requests[index], place)
        else:
            publisher.repeated(requests[index], place.seq, entry.ts)
    _end_run(entry, begun, count, first)


def _end_run(entry: Publishes, begun: int, count: int, first: int) -> None:
    if count:
        entry.publisher.published(entry.requests[begun : begun + count], first, entry.ts)
