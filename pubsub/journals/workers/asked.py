"""Batches and questions that a worker has asked and that have no outcome yet. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Struct

from pubsub.journals.shared.engine import Append, Operation, Outcome
from pubsub.journals.workers.outcomes import failure_of, take_outcome
from pubsub.journals.workers.wire import (
    Answer,
    Ask,
    Asked,
    Count,
    Done,
    Failed,
    Item,
    Page,
    Publishes,
    Question,
    WireOutcome,
    frame,
    size_of,
)
from pubsub.protocol.errors import NotStored

if TYPE_CHECKING:
    from pubsub.journals.shared.engine import Outcomes
    from pubsub.protocol.requests import Publish

log = logging.getLogger(__name__)

FRAME_BYTES: Final = 256 * 1024  # a batch is split into frames of about so many bytes, unless one operation has more


class Waiting(Struct):
    """A batch. ``found``: its outcomes so far. ``missing``: of its frames. ``outcomes``: None once withdrawn."""

    outcomes: Outcomes | None
    found: list[Outcome]
    missing: int


class Part(Struct, frozen=True):
    """A frame of a batch."""

    batch: Waiting
    operations: list[Asked]


class AskedBatches:
    """See the module. Each frame has a number, and the outcomes come in that order."""

    def __init__(self) -> None:
        self._parts: dict[int, Part] = {}  # in the order of their numbers
        self._number = 0  # of the last frame
        self._sent = 0  # up to this number, an owner may have them
        self._settled = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        """Add a batch, which is to be sent."""
        batch = Waiting(outcomes, [], 0)
        for some in split(operations):
            self._number += 1
            batch.missing += 1
            self._parts[self._number] = Part(batch, some)

    def withdraw(self, outcomes: Outcomes) -> None:
        """Forget a batch: it is not sent again."""
        for number, part in list(self._parts.items()):
            if part.batch.outcomes == outcomes:
                del self._parts[number]
                part.batch.outcomes = None

    def unsent(self) -> Iterator[bytes]:
        """The frames that were not sent yet."""
        return self._frames(self._sent)

    def all(self) -> Iterator[bytes]:
        """All frames: the owner knows which it has had."""
        return self._frames(0)

    def _frames(self, after: int) -> Iterator[bytes]:
        numbers = []
        for number in reversed(self._parts):
            if number <= after:
                break
            numbers.append(number)
        for number in reversed(numbers):
            self._sent = max(self._sent, number)
            yield frame(Ask(number, self._settled, self._parts[number].operations))

    def take(self, number: int, found: Sequence[WireOutcome]) -> None:
        """The outcomes of a frame have come."""
        self._settled = max(self._settled, number)
        part = self._parts.pop(number, None)
        if part is not None:
            self._end(part, [take_outcome(each) for each in found])

    def fail_sent(self) -> None:
        """Nobody knows the outcomes of the frames that were sent: their owner has died."""
        for number in [each for each in self._parts if each <= self._sent]:
            part = self._parts.pop(number)
            self._end(part, [NotStored()] * len(part.operations))

    def _end(self, part: Part, found: Sequence[Outcome]) -> None:
        batch = part.batch
        batch.found += found
        batch.missing -= 1
        if not batch.missing and batch.outcomes is not None:
            try:
                batch.outcomes(batch.found)
            except Exception:  # the others get theirs
                log.exception("Internal error at the outcomes of a batch")


def split(operations: Sequence[Operation]) -> Iterator[list[Asked]]:
    """The operations as they are sent, in frames: one at least, for a batch without operations has an outcome too."""
    some: list[Asked] = []
    size = 0
    for operation in operations:
        asked = publishes(operation) if isinstance(operation, Append) else operation
        some.append(asked)
        size += size_of(asked)
        if size >= FRAME_BYTES:
            yield some
            some, size = [], 0
    if some or not operations:
        yield some


def publishes(append: Append) -> Publishes:
    return Publishes(append.known, append.sender, append.together, [item(each) for each in append.requests])


def item(request: Publish) -> Item:
    message = request.message
    payload: Any = memoryview(message.payload)
    if request.ttl_sec is request.expect_seq:  # both are unset: one is a float, the other a whole number
        return Item(message.id, payload)
    return Item(
        message.id,
        payload,
        None if request.ttl_sec is UNSET else request.ttl_sec,
        None if request.expect_seq is UNSET else request.expect_seq,
    )


class Open(Struct, frozen=True):
    """A question without an answer."""

    question: Question
    done: Callable[[Any], None]


class AskedQuestions:
    """See the module."""

    def __init__(self) -> None:
        self._open: dict[int, Open] = {}
        self._number = 0

    def add(self, make: Callable[[int], Question], done: Callable[[Any], None]) -> bytes:
        """Add a question, and return its frame."""
        self._number += 1
        question = make(self._number)
        self._open[self._number] = Open(question, done)
        return frame(question)

    def all(self) -> list[bytes]:
        """The frames of all questions without an answer."""
        return [frame(each.question) for each in self._open.values()]

    def take(self, answer: Answer) -> None:
        """An answer has come."""
        asked = self._open.pop(answer.number, None)
        if asked is not None:
            try:
                asked.done(found_in(answer))
            except Exception:  # the others get theirs
                log.exception("Internal error at an answer of the owner")


def found_in(answer: Answer) -> Any:
    """The answer as the Engine's methods give it."""
    match answer.found:
        case Done():
            return None
        case Page():
            return answer.found.events
        case Count():
            return bool(answer.found.count)
        case Failed():
            return failure_of(answer.found)
