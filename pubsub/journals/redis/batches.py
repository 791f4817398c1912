"""The batches of one server: sent in order, asked again after a loss of the connection, their outcomes. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Protocol

import hiredis
import msgspec
from msgspec import Struct

from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import decode_decided, decode_outcome, encode, encode_operation
from pubsub.journals.shared.engine import Append, Delete, Operation, Outcome, Outcomes, Purge, Tell
from pubsub.protocol.errors import Failure, NotStored

# Redis decides a piece of a batch in one step: 200 messages take 1 ms, 1 MiB takes 10 ms. What it tells of the pieces
# in progress stays far below the output buffer of a subscriber (8 MiB for a minute).
PIECE_BYTES: Final = 256 * 1024
PIECE_MESSAGES: Final = 200
BYTES_IN_PROGRESS: Final = 2 * 1024 * 1024
SETTLED_AT_ONCE: Final = 500  # numbers of batches whose results Redis may forget: Lua unpacks less than 8,000
OPERATION_BYTES: Final = 200  # of an operation or a message, without its content

# The connection leads to nobody who can decide: another one may.
REBUILD: Final = frozenset({
    "STALE", "LOST", "NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "UNKILLABLE", "BUSY",
})  # fmt: skip


class Batch:
    """Operations that were asked together. ``results``: what is known of their outcomes. ``pieces``: still to come."""

    __slots__ = ("outcomes", "pieces", "results", "withdrawn")

    def __init__(self, outcomes: Outcomes, count: int) -> None:
        self.outcomes = outcomes
        self.results: list[Any] = [None] * count
        self.pieces = 0
        self.withdrawn = False


class Piece(Struct):
    """Operations that are decided together, with their places in the batch. ``n``: the push that tells of them."""

    batch: Batch
    places: Sequence[int]
    operations: Sequence[Operation]
    number: int
    size: int
    body: bytes
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
        self._number = 0
        self._batches: dict[Outcomes, Batch] = {}
        self._waiting: deque[Piece] = deque()
        self._sent: deque[Piece] = deque()
        self._held: deque[Piece] = deque()  # decided, but their records have not come
        self._settled: list[int] = []
        self._in_progress = 0
        self._line: Line | None = None
        self._connection = 0
        self._token = ""
        self.seen = 0

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        batch = self._batches[outcomes] = Batch(outcomes, len(operations))
        for places, some, size in split(operations):
            self._number += 1
            body = encode([encode_operation(each, self._server) for each in some])
            batch.pieces += 1
            self._waiting.append(Piece(batch, places, some, self._number, size, body))
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
            piece = self._waiting.popleft()
            if piece.batch.withdrawn:
                continue
            self._sent.append(piece)
            self._in_progress += piece.size
            settled, self._settled = self._settled[:SETTLED_AT_ONCE], self._settled[SETTLED_AT_ONCE:]
            header = encode((self._server, self._connection, piece.number, settled, self._epoch(piece)))
            shrinks = all([isinstance(each, Delete | Purge) for each in piece.operations])
            script = self._scripts.shrink if shrinks else self._scripts.batch
            self._line.send(script.run(header, piece.body), partial(self._replied, piece, self._line))

    def _epoch(self, piece: Piece) -> str:
        """A new epoch for topics of which this piece finds that messages are lost."""
        return f"{self._token}{piece.number:x}"

    def _replied(self, piece: Piece, line: Line, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            if text.partition(" ")[0] in REBUILD:
                line.close(text)
                return
            self._trouble(text)
            piece.given = [NotStored()] * len(piece.operations)
        else:
            decided = decode_decided(reply)
            piece.n = decided.n
            self._settled.append(piece.number)
            if not piece.batch.withdrawn:
                piece.given = [
                    decode_outcome(operation, outcome)
                    for operation, outcome in zip(piece.operations, decided.outcomes, strict=True)
                ]
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
        for place, given, operation in zip(piece.places, piece.given, piece.operations, strict=True):
            batch.results[place] = join(batch.results[place], given, operation)
        batch.pieces -= 1
        if batch.pieces == 0:
            del self._batches[batch.outcomes]
            batch.outcomes(batch.results)


def join(before: Outcome, given: Outcome, operation: Operation) -> Outcome:
    """The outcome of an operation, of which one part after the other is decided if it is a long append."""
    if not isinstance(operation, Append) or operation.together:
        return given
    parts = [given] * len(operation.requests) if isinstance(given, Failure) else given
    assert isinstance(parts, list), "an append has an outcome for each message"
    return parts if before is None else [*before, *parts]  # type: ignore[misc]


def split(operations: Sequence[Operation]) -> Iterator[tuple[Sequence[int], Sequence[Operation], int]]:
    """Split a batch into pieces: places of the operations, the operations, and bytes."""
    places: list[int] = []
    some: list[Operation] = []
    size = messages = 0
    for place, operation in enumerate(operations):
        for part in parts_of(operation):
            bytes_, count = measure(part)
            if some and (size + bytes_ > PIECE_BYTES or messages + count > PIECE_MESSAGES):
                yield places, some, size
                places, some, size, messages = [], [], 0, 0
            places.append(place)
            some.append(part)
            size += bytes_
            messages += count
    yield places, some, size


def measure(operation: Operation) -> tuple[int, int]:
    """Bytes and messages of an operation."""
    if isinstance(operation, Append):
        size = OPERATION_BYTES * (1 + len(operation.requests))
        for request in operation.requests:
            size += len(request.message.payload)
        return size, len(operation.requests)
    return OPERATION_BYTES + (len(operation.data) if isinstance(operation, Tell) else 0), 1


def parts_of(operation: Operation) -> Iterator[Operation]:
    """The operation, or several if it has too many messages for one piece and they need not be decided together."""
    if not isinstance(operation, Append) or operation.together:
        yield operation
        return
    size, count = measure(operation)
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
