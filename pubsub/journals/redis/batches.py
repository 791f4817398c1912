"""The batches of one server: sent in order, asked again after a loss of the connection, their outcomes. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import hiredis
import msgspec
from msgspec import Struct

from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import decode_decided, decode_outcome, encode, encode_operations
from pubsub.journals.shared.engine import Append, Delete, Operation, Outcome, Outcomes, Purge, Tell
from pubsub.protocol.errors import Failure, NotStored

# Redis decides a piece of a batch in one step: 200 messages take 1 ms, 1 MiB takes 10 ms. What it tells of the pieces
# in progress stays far below the output buffer of a subscriber (8 MiB for a minute).
PIECE_BYTES: Final = 256 * 1024
PIECE_MESSAGES: Final = 200
BYTES_IN_PROGRESS: Final = 2 * 1024 * 1024
# Pieces in progress: 12,800 a second if Redis is 10 ms away. It keeps so many replies, 10 KiB in all, each until the
# next piece with its slot is decided.
SLOTS: Final = 128
OPERATION_BYTES: Final = 200  # of an operation or a message, without its content

# The connection leads to nobody who can decide: another one may.
REBUILD: Final = frozenset({
    "STALE", "LOST", "NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "UNKILLABLE", "BUSY",
})  # fmt: skip


class Batch(Struct):
    """Operations that were asked together. ``pieces``: still to come, and ``results``: the outcomes so far, both only
    if it has several pieces.
    """

    outcomes: Outcomes
    results: list[Any] = []
    pieces: int = 0
    withdrawn: bool = False


class Piece(Struct):
    """Operations that are decided together, with their places in the batch. ``number``: 0 before it is sent first.

    ``n``: the push that tells of them.
    """

    batch: Batch
    places: Sequence[int]
    operations: Sequence[Operation]
    size: int
    number: int = 0
    given: Sequence[Outcome] = ()
    n: int = 0


class Line(Protocol):
    """A connection, as batches use it."""

    def send(self, encoded: bytes, replied: Callable[[Any], None]) -> None: ...

    def close(self, reason: str) -> None: ...


class Batches:
    """See the module. ``trouble`` gets the reason for which Redis refuses to decide."""

    def __init__(self, server: str, scripts: Scripts, trouble: Callable[[str], None]) -> None:
        self._server = server
        self._scripts = scripts
        self._trouble = trouble
        self._number = 0  # of the last piece that was sent
        self._batches: dict[Outcomes, Batch] = {}
        self._waiting: deque[Piece] = deque()
        self._sent: deque[Piece] = deque()
        self._held: deque[Piece] = deque()  # decided, but their records have not come
        self._in_progress = 0
        self._line: Line | None = None
        self._connection = 0
        self._token = ""
        self.seen = 0

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        batch = self._batches[outcomes] = Batch(outcomes)
        size, messages = measure(operations)
        if size <= PIECE_BYTES and messages <= PIECE_MESSAGES and len(set(map(shrinks, operations))) < 2:
            self._waiting.append(Piece(batch, (), operations, size))
        else:
            batch.results = [None] * len(operations)
            pieces = [Piece(batch, places, some, size) for places, some, size in split(operations)]
            batch.pieces = len(pieces)
            self._waiting += pieces
        self._send()

    def withdraw(self, outcomes: Outcomes) -> None:
        """Ask a batch no more."""
        if (batch := self._batches.pop(outcomes, None)) is not None:
            batch.withdrawn = True
        while self._waiting and self._waiting[0].batch.withdrawn:
            self._waiting.popleft()

    def open(self, line: Line, connection: int, token: str) -> None:
        """Go on with a new connection: all states have come, and so the records of what was decided."""
        self._line, self._connection, self._token = line, connection, token
        self.release(self.seen)
        self._send()

    def pause(self) -> None:
        """The connection is lost. What was sent is asked again; the script knows it if it was decided."""
        self._line = None
        again = [piece for piece in self._sent if not piece.batch.withdrawn]
        self._waiting.extendleft(reversed(again))
        self._sent.clear()
        self._in_progress = 0
        for piece in self._held:
            piece.n = 0

    def release(self, seen: int) -> None:
        """The records up to this push have come, and so the outcomes may."""
        self.seen = seen
        held = self._held
        while held and held[0].n <= seen:
            self._end(held.popleft())

    def _send(self) -> None:
        while self._line is not None and self._waiting and self._in_progress < BYTES_IN_PROGRESS:
            piece = self._waiting[0]
            number = piece.number or self._number + 1
            if self._sent and number - self._sent[0].number >= SLOTS:
                return  # the first one may be asked again: then the reply in its slot is needed
            self._waiting.popleft()
            if piece.batch.withdrawn:
                continue
            piece.number = number
            self._number = max(self._number, number)
            self._sent.append(piece)
            self._in_progress += piece.size
            self._line.send(self._encode(piece), self._replied)

    def _encode(self, piece: Piece) -> bytes:
        operations, messages = encode_operations(piece.operations, self._server)
        number = piece.number
        epoch = f"{self._token}{number:x}"  # a new one, for topics of which this piece finds that messages are lost
        header = encode((self._server, self._connection, number % SLOTS, number, epoch, operations))
        script = self._scripts.shrink if all(map(shrinks, piece.operations)) else self._scripts.batch
        return script.run(header, *messages)

    def _replied(self, reply: Any) -> None:
        piece = self._sent[0]
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            if text.partition(" ")[0] in REBUILD:
                assert self._line is not None, "it has given the reply"
                self._line.close(text)
                return
            self._trouble(text)
            piece.given = [NotStored()] * len(piece.operations)
        else:
            decided = decode_decided(reply)
            piece.n = decided.n
            if not piece.batch.withdrawn:
                piece.given = list(map(decode_outcome, piece.operations, decided.outcomes))
        self._sent.popleft()
        self._in_progress -= piece.size
        if self._held or piece.n > self.seen:
            self._held.append(piece)
        else:
            self._end(piece)
        if self._waiting:
            self._send()

    def _end(self, piece: Piece) -> None:
        batch = piece.batch
        if batch.withdrawn:
            return
        outcomes = piece.given
        if batch.pieces:
            outcomes = batch.results
            for place, given, operation in zip(piece.places, piece.given, piece.operations, strict=True):
                outcomes[place] = join(outcomes[place], given, operation)
            batch.pieces -= 1
            if batch.pieces:
                return
        del self._batches[batch.outcomes]
        batch.outcomes(outcomes)


def join(before: Outcome, given: Outcome, operation: Operation) -> Outcome:
    """The outcome of an operation, of which one part after the other is decided if it is a long append."""
    if not isinstance(operation, Append) or operation.together:
        return given
    parts = [given] * len(operation.requests) if isinstance(given, Failure) else given
    assert isinstance(parts, list), "an append has an outcome for each message"
    return parts if before is None else [*before, *parts]  # type: ignore[misc]


def shrinks(operation: Operation) -> bool:
    """True for one that frees memory: Redis decides it even if its memory is full, but not together with others."""
    return isinstance(operation, Delete | Purge)


def split(operations: Sequence[Operation]) -> Iterator[tuple[Sequence[int], Sequence[Operation], int]]:
    """Split a batch into pieces: places of the operations, the operations, and bytes."""
    places: list[int] = []
    some: list[Operation] = []
    size = messages = 0
    for place, operation in enumerate(operations):
        for part in parts_of(operation):
            bytes_, count = measure([part])
            full = size + bytes_ > PIECE_BYTES or messages + count > PIECE_MESSAGES
            if some and (full or shrinks(part) != shrinks(some[-1])):
                yield places, some, size
                places, some, size, messages = [], [], 0, 0
            places.append(place)
            some.append(part)
            size += bytes_
            messages += count
    yield places, some, size


def measure(operations: Sequence[Operation]) -> tuple[int, int]:
    """Bytes and messages of operations. One that is no Append counts as a message."""
    size = messages = 0
    for operation in operations:
        size += OPERATION_BYTES
        if type(operation) is Append:
            messages += len(operation.requests)
            for request in operation.requests:
                size += len(request.message.payload) + OPERATION_BYTES
        else:
            messages += 1
            size += len(operation.data) if type(operation) is Tell else 0
    return size, messages


def parts_of(operation: Operation) -> Iterator[Operation]:
    """The operation, or several if it has too many messages for one piece and they need not be decided together."""
    if not isinstance(operation, Append) or operation.together:
        yield operation
        return
    size, count = measure([operation])
    if size <= PIECE_BYTES and count <= PIECE_MESSAGES:
        yield operation
        return
    begin = size = 0
    requests = operation.requests
    for end, request in enumerate(requests):
        if end > begin and (size > PIECE_BYTES or end - begin == PIECE_MESSAGES):
            yield _part(operation, begin, end)
            begin, size = end, 0
        size += len(request.message.payload) + OPERATION_BYTES
    yield _part(operation, begin, len(requests))


def _part(operation: Append, begin: int, end: int) -> Append:
    span = slice(begin, end)
    return msgspec.structs.replace(operation, requests=operation.requests[span], lifetimes=operation.lifetimes[span])
