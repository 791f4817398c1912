"""Questions of this server to the engine: one batch in a tick, each with an outcome within a bounded time. No I/O."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pubsub.core.histogram import Histogram
from pubsub.journals.shared.engine import Engine, Operation, Outcome
from pubsub.journals.shared.gathering import Batch, Gathering
from pubsub.journals.shared.inbox import Inbox
from pubsub.journals.shared.telling import Telling
from pubsub.journals.sizes import size_of
from pubsub.protocol.errors import Failure, NotStored

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Publisher
    from pubsub.journals.shared.log import SharedLog
    from pubsub.protocol.requests import Publish

log = logging.getLogger(__name__)

ASK_TIMES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds
# Bytes of publishes without an outcome. Beyond it, publishers are not read from.
WAITING_BYTES: Final = 16 * 1024 * 1024


class Asking:
    """See the module. ``inbox`` has the records that came before an outcome, and are not applied yet.

    ``wait``: seconds after which an operation without an outcome is refused. ``failure``: the reason, for the operator,
    for which operations fail; empty if they do not.
    """

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        *,
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        now: Callable[[], float],
        wait: float,
    ) -> None:
        self.times = Histogram(ASK_TIMES)
        self.failures = 0
        self.telling = Telling(defer)
        self._engine = engine
        self._inbox = inbox
        self._defer = defer
        self._call_later = call_later
        self._now = now
        self._wait = wait
        self._gathering = Gathering()
        self._deferred = False  # the end of this tick asks
        self._asked: deque[Batch] = deque()  # without an outcome
        self._reason = ""  # the reason that the engine gave
        self._silent = False  # the last batch had no answer in time
        self._away = False  # as a whole
        self._away_since = 0.0
        self._watching = False
        self._when_writable: list[Callable[[], None]] = []

    @property
    def failure(self) -> str:
        return self._reason or (f"no answer from the engine within {self._wait:g} s" if self._silent else "")

    @property
    def hopeless(self) -> bool:
        """True if the engine could not be reached for so long that nothing waits for it any more."""
        return self._away and self._now() >= self._away_since + self._wait

    def fail(self, reason: str, *, partly: bool = False) -> None:
        """The engine fails for this reason, ``partly`` if it still decides something; empty if it does not any more."""
        before = self.failure
        away = bool(reason) and not partly
        if away and not self._away:
            self._away_since = self._now()
        self._away = away
        self._reason = reason
        if not reason:
            self._silent = False
        self._note(before)

    def note_answer(self) -> None:
        """The engine has answered something."""
        if self._silent:
            before, self._silent = self.failure, False
            self._note(before)

    # Operations

    def publish(self, log: SharedLog, requests: Sequence[Publish], publisher: Publisher, ts: str, sender: str) -> None:
        if not self._deferred:
            self._begin()
        size = size_of(requests)
        self.telling.pending_bytes += size
        log.unsettled += 1
        self._gathering.publish(log, requests, publisher, ts, sender, size)

    def publish_list(self, log: SharedLog, requests: Sequence[Publish], done: Assigned, ts: str, sender: str) -> None:
        self._begin()
        size = size_of(requests)
        self.telling.pending_bytes += size
        log.unsettled += 1
        self._gathering.publish_list(log, requests, done, ts, sender, size)

    def add(self, operation: Operation, done: Callable[[Any], None] | None = None) -> None:
        self._begin()
        self._gathering.add(operation, done)

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after the outcomes of all operations so far."""
        if self._deferred or self._asked:
            self._begin()
            self._gathering.call_after(lambda _: callback())
        elif self.telling:
            self.telling.call_after(callback)
        else:
            callback()

    @property
    def full(self) -> bool:
        return self.telling.pending_bytes > WAITING_BYTES

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self._when_writable.append(callback)

    # Batches

    def _begin(self) -> None:
        if not self._deferred:
            self._deferred = True
            self._defer(self._ask)

    def _ask(self) -> None:
        self._deferred = False
        batch = self._gathering.finish()
        batch.asked = self._now()
        if self._away and self.hopeless:
            self._refuse_asked(lambda _: True)
            self._refuse(batch)
            return
        batch.outcomes = partial(self._take, batch)
        self._asked.append(batch)
        if not self._watching:
            self._watching = True
            self._call_later(self._wait, self._refuse_late)
        self._engine.ask(batch.operations, batch.outcomes)

    def _take(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        if self._inbox.busy:
            self._inbox.take(partial(self._end, batch, outcomes))
        else:
            self._end(batch, outcomes)

    def _end(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        if not self._asked or self._asked[0] is not batch:
            return  # it was refused while its outcomes waited behind the records
        self._asked.popleft().outcomes = None  # which has the batch: without the cycle their memory is free at once
        self.times.observe(self._now() - batch.asked)
        if self._silent:
            self.note_answer()
        self._tell(batch, outcomes)

    def _tell(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        self.telling.tell(batch, outcomes)
        if self._when_writable and not self.full:
            self._let_publish()

    def _refuse(self, batch: Batch) -> None:
        self.failures += 1
        failure: Failure = NotStored()
        self._tell(batch, [failure] * len(batch.operations))

    def _refuse_late(self) -> None:
        """Refuse what has waited for too long. The engine may have done it all the same, or do it later."""
        now = self._now()
        before = self.failure
        if self._refuse_asked(lambda batch: batch.asked + self._wait <= now):
            self._silent = True
        self._note(before)
        self._watching = bool(self._asked)
        if self._asked:
            self._call_later(self._asked[0].asked + self._wait - now, self._refuse_late)

    def _refuse_asked(self, is_late: Callable[[Batch], bool]) -> int:
        """Refuse the first batches that are late. Returns their number."""
        count = 0
        while self._asked and is_late(self._asked[0]):
            batch = self._asked.popleft()
            assert batch.outcomes is not None, "it was asked"
            outcomes, batch.outcomes = batch.outcomes, None
            self._refuse(batch)
            self._engine.withdraw(outcomes)  # which may give the outcomes of the next batch
            count += 1
        return count

    def _let_publish(self) -> None:
        waiting, self._when_writable = self._when_writable, []
        for callback in waiting:
            try:
                callback()
            except Exception:  # the others may publish all the same
                log.exception("Internal error at a publisher that waited for the journal")

    def _note(self, before: str) -> None:
        failure = self.failure
        if failure and failure != before:
            log.error("Journal fails: %(reason)s", {"reason": failure})
        elif before and not failure:
            log.warning("Journal works again")
