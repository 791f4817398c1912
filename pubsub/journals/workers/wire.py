"""The messages between the owner and its workers, as msgpack in frames: four bytes of length, then a message. No I/O.

Both ends are processes of one version of this program: a change of a type here is a change of VERSION.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from pubsub.core.event import StoredEvent
from pubsub.journals.shared.engine import (
    Appended,
    Create,
    Delete,
    Deleted,
    Known,
    Purge,
    Purged,
    State,
    Tell,
    Told,
)
from pubsub.protocol.requests import Message, Publish

VERSION: Final = 1
LENGTH_BYTES: Final = 4
# Beside the messages of clients, a frame has little: names, options, and the states of a slice of topics.
OVERHEAD: Final = 4 * 1024 * 1024
GREETING_BYTES: Final = 1024  # of a frame from a process that has not been accepted yet


class WireError(Exception):
    """The other end sends what this version does not understand. The text says what came."""


# From a worker


class Hello(Struct, frozen=True, array_like=True, tag=True):
    """The first message. ``server``: the worker's id. ``life``: that of the owner which it knew before, if any."""

    version: int
    server: str
    life: str


class Renew(Struct, frozen=True, array_like=True, tag=True):
    """Topics in memory that the worker knows from an earlier life of the owner, with ``more`` to come."""

    topics: list[State]
    more: bool


class Item(Struct, frozen=True, array_like=True, gc=False):
    """One publish of Publishes. ``payload`` is JSON: bytes, or to be sent also a view of them."""

    id: str
    payload: bytes
    ttl_sec: float | None = None
    expect_seq: int | None = None


class Publishes(Struct, frozen=True, array_like=True, tag=True):
    """An Append: its time stamp is that of the owner, and the lifetimes follow from topic and publish."""

    known: Known
    sender: str
    together: bool
    items: list[Item]

    @property
    def requests(self) -> list[Publish]:
        name = self.known.name
        return [
            Publish(
                topic=name,
                message=Message(item.id, Raw(item.payload)),
                ttl_sec=UNSET if item.ttl_sec is None else item.ttl_sec,
                expect_seq=UNSET if item.expect_seq is None else item.expect_seq,
            )
            for item in self.items
        ]


Asked = Publishes | Create | Delete | Purge | Tell


class Ask(Struct, frozen=True, array_like=True, tag=True):
    """A batch, or a part of a long one. Numbers grow. ``settled``: up to this number, all outcomes have come."""

    number: int
    settled: int
    operations: list[Asked]


class Sync(Struct, frozen=True, array_like=True, tag=True):
    """The question for an Answer after all earlier records. Questions have numbers of their own."""

    number: int


class Read(Struct, frozen=True, array_like=True, tag=True):
    """The question for a page."""

    number: int
    known: Known
    after: int
    until: int
    limit: int


class FindMissing(Struct, frozen=True, array_like=True, tag=True):
    """The question if any event is missing."""

    number: int
    known: Known
    after: int
    until: int


Question = Sync | Read | FindMissing
FromWorker = Hello | Renew | Ask | Sync | Read | FindMissing

# From the owner


class Welcome(Struct, frozen=True, array_like=True, tag=True):
    """The answer to a Hello. ``life``: the owner's. ``known``: it knows which batches of this worker it has done."""

    life: str
    known: bool


class Refused(Struct, frozen=True, array_like=True, tag=True):
    """The answer to a Hello that cannot be accepted."""

    reason: str


class Texts(Struct, frozen=True, array_like=True, tag=1):
    """An Appended. ``expires``: none if no event expires."""

    name: str
    epoch: str
    first: int
    kept: int
    size: int
    texts: list[bytes]
    expires: list[float] | None

    @property
    def record(self) -> Appended:
        times = self.expires
        if times is None:
            events = [StoredEvent(seq, text) for seq, text in enumerate(self.texts, self.first)]
        else:
            events = [StoredEvent(self.first + place, text, times[place]) for place, text in enumerate(self.texts)]
        return Appended(self.name, self.epoch, events, self.kept, self.size)


Sent = Texts | State | Deleted | Purged | Told


class Records(Struct, frozen=True, array_like=True, tag=True):
    """The next records, in order."""

    records: list[Sent]


class Synced(Struct, frozen=True, array_like=True, tag=True):
    """All topics have come as states since the Welcome."""


class Done(Struct, frozen=True, array_like=True, tag=True):
    """The outcome None."""


class Count(Struct, frozen=True, array_like=True, tag=True):
    """A number as outcome or answer."""

    count: int


class Placed(Struct, frozen=True, array_like=True, tag=True):
    """``count`` publishes from ``first`` on, or as many duplicates of ``first``."""

    first: int
    count: int
    duplicate: bool


class Failed(Struct, frozen=True, array_like=True, tag=True):
    """A Failure. ``kind``: its class. ``seq``: of a Conflict."""

    kind: str
    text: str
    seq: int | None = None


class Each(Struct, frozen=True, array_like=True, tag=True):
    """The outcomes of an Append, in order."""

    parts: list[Placed | Failed]


WireOutcome = Done | Count | Each | Failed


class Outcomes(Struct, frozen=True, array_like=True, tag=True):
    """The outcomes of a batch."""

    number: int
    outcomes: list[WireOutcome]


class Page(Struct, frozen=True, array_like=True, tag=True):
    """Events of a topic, which need not follow each other."""

    seqs: list[int]
    texts: list[bytes]
    expires: list[float]

    @property
    def events(self) -> list[StoredEvent]:
        return [StoredEvent(*each) for each in zip(self.seqs, self.texts, self.expires, strict=True)]


class Answer(Struct, frozen=True, array_like=True, tag=True):
    """The answer to a Question: Done to a Sync, a Page to a Read, a Count of 0 or 1 to a FindMissing, or Failed."""

    number: int
    found: Done | Page | Count | Failed


FromOwner = Welcome | Refused | Records | Synced | Outcomes | Answer

_encode = msgspec.msgpack.Encoder().encode
_decode_worker: Callable[[Any], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
_decode_owner: Callable[[Any], FromOwner] = msgspec.msgpack.Decoder(FromOwner).decode


def frame(message: FromWorker | FromOwner) -> bytes:
    """A message with its length before it."""
    text = _encode(message)
    return len(text).to_bytes(LENGTH_BYTES) + text


def size_of(operation: Asked) -> int:
    """About the bytes of an operation in a frame."""
    if isinstance(operation, Publishes):
        return sum([len(item.payload) + 60 for item in operation.items])
    return 1000 + (len(operation.data) if isinstance(operation, Tell) else 0)


def decode_from_worker(text: Any) -> FromWorker:
    """Raises WireError."""
    try:
        return _decode_worker(text)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from None


def decode_from_owner(text: Any) -> FromOwner:
    """Raises WireError."""
    try:
        return _decode_owner(text)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from None


def texts_of(name: str, epoch: str, events: Sequence[StoredEvent], kept: int, size: int) -> Texts:
    """Events that follow each other, as they are sent."""
    texts = [event.text for event in events]
    times = [event.expires for event in events]
    return Texts(name, epoch, events[0].seq, kept, size, texts, times if min(times) < inf else None)


def page_of(events: Sequence[StoredEvent]) -> Page:
    return Page([event.seq for event in events], [event.text for event in events], [event.expires for event in events])


class Splitter:
    """Splits what comes in a stream into frames of at most ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._rest = bytearray()

    def split(self, received: bytes) -> Iterator[memoryview]:
        """The frames that are complete now. Raises WireError for one that is too long."""
        rest = self._rest
        whole: bytes | bytearray = received
        if rest:
            rest += received
            whole = rest
        start = 0
        with memoryview(whole) as view:
            while start + LENGTH_BYTES <= len(view):
                length = int.from_bytes(view[start : start + LENGTH_BYTES])
                if length > self.most:
                    raise WireError(f"a frame of {length} bytes, expected at most {self.most}")
                end = start + LENGTH_BYTES + length
                if end > len(view):
                    break
                with view[start + LENGTH_BYTES : end] as found:
                    yield found
                start = end
        if whole is rest:
            del rest[:start]
        else:
            rest += received[start:]
