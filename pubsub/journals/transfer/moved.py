"""A topic, its messages and its ids as every journal has them, and their digest. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from math import inf
from typing import Protocol

import msgspec
from msgspec import Struct

from pubsub.protocol.requests import TopicOptions


class MovedTopic(Struct, frozen=True):
    """A topic. ``first``: its oldest message, ``seq`` + 1 if it keeps none. ``size``: bytes of its messages, about."""

    name: str
    epoch: str
    options: TopicOptions
    seq: int
    first: int
    size: int

    @property
    def kept(self) -> int:
        return self.seq - self.first + 1


class MovedEvent(Struct, frozen=True, gc=False, array_like=True):
    """A message. ``expires``: Unix time to the millisecond, ``inf`` for none. ``sender``: empty without one."""

    seq: int
    id: str
    payload: bytes
    ts: str
    sender: str
    expires: float = inf


class MovedId(Struct, frozen=True, gc=False, array_like=True):
    """An id that the topic does not take again before ``end``, a Unix time. ``id``: a UUID in lower case."""

    id: str
    seq: int
    end: float


class Digest:
    """A hash over the messages and ids of a topic, and the number of each. The pages may have any size."""

    def __init__(self) -> None:
        self.events = 0
        self.ids = 0
        self._hash = hashlib.sha256()

    def add_events(self, events: Iterable[MovedEvent]) -> None:
        for event in events:
            self.events += 1
            self._hash.update(_encode(event) + b"\n")

    def add_ids(self, ids: Iterable[MovedId]) -> None:
        for each in ids:
            self.ids += 1
            self._hash.update(_encode(each) + b"\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and str(self) == str(other)

    def __str__(self) -> str:
        return self._hash.hexdigest()


_encode = msgspec.msgpack.Encoder().encode


class Contents(Protocol):
    """The messages and ids of one topic, in order, page by page. ``now``: ids whose window has ended are left out."""

    def events(self) -> AsyncIterator[Sequence[MovedEvent]]: ...

    def ids(self, now: float) -> AsyncIterator[Sequence[MovedId]]: ...


class Draft(Contents, Protocol):
    """A topic that nobody sees before ``finish``. One that is never finished leaves nothing that anybody sees."""

    async def add_events(self, events: Sequence[MovedEvent]) -> None:
        """Add the next messages."""
        ...

    async def add_ids(self, ids: Sequence[MovedId]) -> None: ...

    async def finish(self) -> None:
        """Make it a topic of its journal, in one step."""
        ...


class Side(Protocol):
    """A journal that topics are read from or written to. Its methods raise JournalError.

    ``only_durable``: it has no other topics. ``where`` is for messages, and has no password.
    """

    where: str
    only_durable: bool

    async def topics(self) -> Sequence[MovedTopic]: ...

    def contents(self, topic: MovedTopic) -> Contents: ...

    async def begin(self, topic: MovedTopic) -> Draft:
        """Begin a topic that the journal does not have."""
        ...

    async def save(self) -> None:
        """Return once all topics that are finished will survive a crash of this program."""
        ...

    async def users(self) -> int:
        """Return the number of servers that use the journal now."""
        ...

    async def close(self) -> None: ...
