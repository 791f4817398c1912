"""Questions for kept messages, on a connection of their own: a large page delays no publish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import hiredis
from msgspec import Struct

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.journals.redis.batches import REBUILD, Line
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import events_of
from pubsub.journals.shared.engine import Known
from pubsub.protocol.errors import Failure, NotAnswered, TopicNotFound

PAGE_BYTES: Final = 64 * 1024  # read at a time, and one event more: memory that a stalled subscriber may take

WAITING: Final = 10_000  # questions that wait for a connection, 0.6 KiB each; others are refused


class Question(Struct):
    """A command, and the function that takes its reply."""

    encoded: bytes
    answer: Callable[[Any], None]


class Reads:
    """See the module. Questions wait while there is no connection, and are asked again after its loss."""

    def __init__(self, scripts: Scripts, clock: Clock) -> None:
        self._scripts = scripts
        self._clock = clock
        self._asked: deque[Question] = deque()
        self._line: Line | None = None

    def open(self, line: Line) -> None:
        self._line = line
        for question in self._asked:
            line.send(question.encoded, partial(self._replied, line))

    def pause(self) -> None:
        self._line = None

    def read(
        self, known: Known, after: int, until: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        encoded = self._scripts.read.run(known.name, known.epoch, after, until, limit, PAGE_BYTES)

        def answer(reply: Any) -> None:
            done(reply if isinstance(reply, Failure) else events_of(known.name, reply, self._clock.monotonic()))

        self._ask(known, encoded, answer)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        encoded = self._scripts.missing.run(known.name, known.epoch, after, until)
        self._ask(known, encoded, lambda reply: done(reply if isinstance(reply, Failure) else bool(reply)))

    def _ask(self, known: Known, encoded: bytes, answer: Callable[[Any], None]) -> None:
        if self._line is None and len(self._asked) >= WAITING:
            answer(NotAnswered())
            return
        self._asked.append(
            Question(encoded, lambda reply: answer(TopicNotFound(known.name) if reply is None else reply))
        )
        if self._line is not None:
            self._line.send(encoded, partial(self._replied, self._line))

    def _replied(self, line: Line, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).partition(" ")[0] in REBUILD:
                line.close(str(reply))
                return
            reply = NotAnswered()
        self._asked.popleft().answer(reply)
