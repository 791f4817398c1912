"""Batches, outcomes, records and pages: as Redis has them (MessagePack), and as the contract has them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Any, Final, assert_never

import msgspec
from msgspec import UNSET, Raw, Struct

from pubsub.core.event import StoredEvent, expiring_at, make_event
from pubsub.core.log import Assignment
from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Delete,
    Deleted,
    Operation,
    Outcome,
    Purge,
    Purged,
    State,
    Tell,
    Told,
)
from pubsub.protocol.errors import Conflict, Failure, LimitExceeded, TopicExists, TopicNotFound
from pubsub.protocol.requests import Message, Publish, TopicOptions


class Blob(Struct, array_like=True, frozen=True, gc=False):
    """A message. Scripts find its id at bytes 4 to 39, and read no more of it. ``lifetime``: seconds, 0 for ever."""

    id: str
    payload: bytes
    lifetime: float
    sender: str


class StateRecord(Struct, array_like=True, tag=0, frozen=True, gc=False):
    name: str
    epoch: str
    options: str
    seq: int
    base: int
    first: int
    size: int
    before: str


class AppendedRecord(Struct, array_like=True, tag=1, frozen=True, gc=False):
    name: str
    epoch: str
    first: int
    ts: str
    at: float
    kept: int
    size: int
    messages: list[Blob]


class RenewedRecord(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """All epochs are renewed."""

    generation: str


AnyRecord = StateRecord | AppendedRecord | Deleted | Purged | Told | RenewedRecord


class Push(Struct, array_like=True, frozen=True, gc=False):
    """Records that come together. ``n`` counts pushes: one that is missing was lost."""

    n: int
    records: list[AnyRecord]


class Canary(Struct, array_like=True, frozen=True, gc=False):
    """The push that returns. ``n``: of the last push. ``time``: Unix time of Redis."""

    n: int
    generation: str
    time: float


class Decided(Struct, array_like=True, frozen=True, gc=False):
    """The reply to a piece of a batch. ``n``: of the last push with its records."""

    number: int
    n: int
    outcomes: list[Any]


class TopicField(Struct, array_like=True, frozen=True, gc=False):
    """A topic as its hash has it. ``generation``: in which it was written; if that is over, it has a newer epoch."""

    epoch: str
    generation: str
    seq: int
    base: int
    first: int
    total: int
    cut: int
    options: str
    before: str


class Entry(Struct, array_like=True, frozen=True, gc=False):
    """A message as its stream has it. ``at``: the Unix time at which Redis took it."""

    total: int
    at: float
    lifetime: float
    ts: str
    message: Blob


encode: Final = msgspec.msgpack.Encoder().encode
decode_push: Final = msgspec.msgpack.Decoder(Push).decode
decode_canary: Final = msgspec.msgpack.Decoder(Canary).decode
decode_decided: Final = msgspec.msgpack.Decoder(Decided).decode
_decode_topic: Final = msgspec.msgpack.Decoder(TopicField).decode
decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_decode_options: Final = msgspec.json.Decoder(TopicOptions).decode
_DEFAULTS: Final = msgspec.structs.asdict(TopicOptions())


def encode_operations(operations: Sequence[Operation], server: str) -> tuple[list[Any], list[bytes]]:
    """Operations as the script takes them, arrays that begin with their kind, and the messages of all of them."""
    encoded: list[Any] = []
    messages: list[bytes] = []
    for operation in operations:
        if isinstance(operation, Append):
            encoded.append(encode_append(operation, messages))
        else:
            encoded.append(encode_operation(operation, server))
    return encoded, messages


def encode_operation(operation: Create | Delete | Purge | Tell, server: str) -> Any:
    match operation:
        case Create(name, epoch, options, most):
            history = options.history or 0
            text = encode_options(options)
            return (2, name, epoch, text, most, history, options.ttl_sec or 0, options.dedup_sec or 0)
        case Delete(known, expected):
            return (3, known.name, known.epoch, -1 if expected is None else expected)
        case Purge(known):
            return (4, known.name, known.epoch)
        case Tell(kind, data):
            return (5, text_of(encode(Told(server, kind, data))))
        case _:
            assert_never(operation)


def encode_append(operation: Append, messages: list[bytes]) -> Any:
    known, requests, sender = operation.known, operation.requests, operation.sender
    lifetimes = [0 if each == inf else each for each in operation.lifetimes] if operation.lifetimes else ()
    expects = False
    for place, request in enumerate(requests):
        message = request.message
        lifetime = lifetimes[place] if lifetimes else 0
        messages.append(encode(Blob(message.id, bytes(message.payload), lifetime, sender)))
        expects = expects or request.expect_seq is not UNSET
    expected = [-1 if each.expect_seq is UNSET else each.expect_seq for each in requests] if expects else ()
    together = operation.together
    return (1, known.name, known.epoch, known.seq, operation.ts, together, len(requests), lifetimes, expected)


def text_of(encoded: bytes) -> Raw:
    """Bytes as a MessagePack text: the scripts can decode no binary."""
    return Raw(b"\xdb%b%b" % (len(encoded).to_bytes(4, "big"), encoded))


def encode_options(options: TopicOptions) -> str:
    """Only what differs from the default, so that an older server understands as much as it can."""
    values = msgspec.structs.asdict(options).items()
    return msgspec.json.encode({name: value for name, value in values if value != _DEFAULTS[name]}).decode()


@lru_cache(maxsize=1024)
def decode_options(text: str) -> TopicOptions:
    """Options of a topic. Most topics share them with others."""
    return _decode_options(text)


def decode_outcome(operation: Operation, outcome: Any) -> Outcome:
    """An outcome of the script as the contract has it."""
    if isinstance(operation, Append):
        return _append_outcome(operation, outcome)
    return _other_outcome(operation, outcome)


def _other_outcome(operation: Create | Delete | Purge | Tell, outcome: Any) -> Outcome:
    match operation:
        case Create(name, most=most):
            if outcome == -1:
                return TopicExists(name)
            return None if outcome == 0 else LimitExceeded(f"the servers have their {most} topics (MAX_TOPICS)")
        case Delete(known, expected):
            if isinstance(outcome, list):
                return Conflict(expected or 0, outcome[0])
            return TopicNotFound(known.name) if outcome == -1 else None
        case Purge(known):
            return TopicNotFound(known.name) if outcome == -1 else int(outcome)
        case Tell():
            return None
        case _:
            assert_never(operation)


def _append_outcome(operation: Append, outcome: Any) -> Outcome:
    requests = operation.requests
    if type(outcome) is int:
        if outcome == -1:
            return TopicNotFound(operation.known.name)
        found: list[Assignment | Failure] = []
        for seq in range(outcome, outcome + len(requests)):  # a list display costs 0.1 µs more, and most have one
            found.append(Assignment(seq, False))
        return found
    if operation.together and outcome and isinstance(outcome[0], list):
        seq, item = outcome[0]
        return _conflict(requests[item], seq, item if len(requests) > 1 else None)
    return [
        _conflict(request, place[0]) if isinstance(place, list) else Assignment(abs(place), place < 0)
        for request, place in zip(requests, outcome, strict=True)
    ]


def _conflict(request: Publish, seq: int, item: int | None = None) -> Failure:
    assert request.expect_seq is not UNSET, "only an expectation can fail"
    return Conflict(request.expect_seq, seq, item=item)


def state_of(record: StateRecord) -> State:
    """A state as the contract has it."""
    return State(
        record.name,
        record.epoch,
        decode_options(record.options),
        record.seq,
        record.base,
        record.first,
        record.size,
        record.before,
    )


def appended_of(record: AppendedRecord, shift: float) -> Appended:
    """The record of messages. ``shift``: seconds from a Unix time of Redis to this machine's monotonic clock."""
    name, ts = record.name, record.ts
    events: list[StoredEvent] = []
    for seq, each in enumerate(record.messages, record.first):
        event = make_event(name, Message(each.id, Raw(each.payload)), seq, ts, each.sender or UNSET)
        if each.lifetime:
            event = expiring_at(event, record.at + each.lifetime + shift)
        events.append(event)
    return Appended(name, record.epoch, events, record.kept, record.size)


class Generation(Struct, frozen=True):
    """The epoch of all topics that nobody has written to since all epochs were renewed, and the one before."""

    current: str
    previous: str

    def state_of(self, name: bytes, field: bytes) -> State:
        """A topic from its hash."""
        topic = _decode_topic(field)
        epoch, base, before = topic.epoch, topic.base, topic.before
        if topic.generation != self.current:
            before = epoch if topic.generation == self.previous else self.previous
            epoch, base = self.current, topic.seq
        size = topic.total - topic.cut
        return State(name.decode(), epoch, decode_options(topic.options), topic.seq, base, topic.first, size, before)


def events_of(topic: str, page: Sequence[bytes], monotonic: float) -> list[StoredEvent]:
    """The events of a page. ``monotonic``: this machine's clock at the time that stands first in the page."""
    now = float(page[0])
    events: list[StoredEvent] = []
    for i in range(1, len(page), 2):
        entry = decode_entry(page[i + 1])
        blob = entry.message
        message = Message(blob.id, Raw(blob.payload))
        event = make_event(topic, message, int(page[i]), entry.ts, blob.sender or UNSET)
        if blob.lifetime:
            event = expiring_at(event, monotonic + entry.at + blob.lifetime - now)
        events.append(event)
    return events
