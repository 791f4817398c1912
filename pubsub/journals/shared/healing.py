"""Holes in the records of a topic: what did not come is read from the engine, and what is gone is told. No I/O."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pubsub.journals.shared.engine import Engine
from pubsub.protocol.errors import Failure, TopicNotFound

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.journals.shared.log import SharedLog

log = logging.getLogger(__name__)

HEALING_AT_ONCE: Final = 8  # topics that are read at a time: after a failure all of them may have holes
PAGE: Final = 500  # events
RETRY: Final = 0.5  # seconds after a page could not be read

Take = Callable[["SharedLog", "Sequence[StoredEvent]", int], None]


class Healing:
    """See the module. ``take(log, events, until)`` delivers the next events of a topic: those that it keeps up to
    ``until``. ``end(log)`` is called when the topic has all that it is known to have.
    """

    def __init__(
        self,
        engine: Engine,
        take: Take,
        end: Callable[[SharedLog], None],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._engine = engine
        self._take = take
        self._end = end
        self._call_later = call_later
        self._waiting: deque[SharedLog] = deque()
        self._healing: dict[SharedLog, None] = {}  # the waiting ones too
        self._held: set[SharedLog] = set()  # of them, those that must not be delivered to yet
        self._reading = 0
        self._callbacks: list[tuple[set[SharedLog], Callable[[], None]]] = []

    def __contains__(self, log: SharedLog) -> bool:
        return log in self._healing

    def heal(self, log: SharedLog, target: int) -> None:
        """Read what follows the topic's ``seq``, up to ``target`` at least."""
        log.target = max(log.target, target)
        if log not in self._healing:
            self._healing[log] = None
            self._waiting.append(log)
            self._read_some()

    def hold(self, log: SharedLog) -> None:
        """Deliver nothing of a topic before :meth:`release`: what comes meanwhile is read after it."""
        self._healing[log] = None
        self._held.add(log)

    def release(self, log: SharedLog) -> None:
        """Deliver to a topic again, unless it is gone or has another epoch."""
        if log in self._held:
            self._held.discard(log)
            self._go_on(log)
            self._read_some()

    def stop(self, log: SharedLog) -> None:
        """Read no more of a topic: it is gone, or has another epoch."""
        if log in self._healing:
            del self._healing[log]
            self._held.discard(log)
            self._note_end(log)

    def call_when_healed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the topics that are being healed now have ended that."""
        if self._healing:
            self._callbacks.append((set(self._healing), callback))
        else:
            callback()

    def _read_some(self) -> None:
        while self._waiting and self._reading < HEALING_AT_ONCE:
            log = self._waiting.popleft()
            if log in self._healing and log not in self._held:
                self._reading += 1
                self._read(log)

    def _read(self, log: SharedLog) -> None:
        topic = log.topic
        assert topic is not None, "a topic that is gone is not healed"
        asked = log.known, topic.seq, log.target
        self._engine.read(*asked, PAGE, partial(self._take_page, log, log.epoch, topic.seq, log.target))

    def _take_page(
        self, log: SharedLog, epoch: str, after: int, until: int, page: Sequence[StoredEvent] | Failure
    ) -> None:
        self._reading -= 1
        topic = log.topic
        if log not in self._healing or topic is None:
            pass
        elif log.epoch != epoch or topic.seq != after:  # it has another epoch: from the beginning
            self._again(log)
        elif isinstance(page, Failure):
            self._retry(log, page)
        else:
            self._take(log, page, page[-1].seq if page else until)
            if log in self._healing and log not in self._held:
                self._go_on(log)
        self._read_some()

    def _go_on(self, log: SharedLog) -> None:
        assert log.topic is not None, "it was read for"
        if log.topic.seq < log.target:
            self._again(log)
        else:
            self.stop(log)
            self._end(log)

    def _again(self, log: SharedLog) -> None:
        self._waiting.append(log)

    def _retry(self, log_: SharedLog, failure: Failure) -> None:
        if isinstance(failure, TopicNotFound):  # its state comes, and tells more
            self.stop(log_)
            return
        log.warning("Topic %(topic)s: missed messages cannot be read yet", {"topic": log_.name})
        self._call_later(RETRY, partial(self._try_again, log_))

    def _try_again(self, log: SharedLog) -> None:
        self._again(log)
        self._read_some()

    def _note_end(self, log: SharedLog) -> None:
        waiting, self._callbacks = self._callbacks, []
        for logs, callback in waiting:
            logs.discard(log)
            if logs:
                self._callbacks.append((logs, callback))
            else:
                callback()
