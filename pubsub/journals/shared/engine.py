"""The contract between the journal of several servers and its engine.

An engine decides: it orders what all servers ask, keeps it, and tells every server of it by records. A server asks by
operations, one batch in a tick, and applies the records, its own among them: nobody but the engine assigns a ``seq``.

All that an engine calls comes on the loop's thread, in one order which is the same for all servers of an engine:

1. A record comes once at most, in the order in which the engine decided. Records can be lost, together with the
   connection or without it: a ``seq`` that jumps shows it, and else the states that come every few seconds.
2. The outcome of a batch comes after the records that it made, if these come at all.
3. After each connection come the states of all topics, then ``Follower.synced``, and only then outcomes.

What is small is ``array_like`` with a tag, so that an engine may send it as it is. The tags of records are those in
Redis, which servers of several versions may share.

An engine may be several programs that share the topics. Then all this holds for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from msgspec import Struct

from pubsub.core.event import StoredEvent
from pubsub.core.log import Assignment
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish, TopicOptions

# What a server asks


class Known(Struct, frozen=True, array_like=True):
    """A topic as a server knows it: its ``epoch``, and the last ``seq`` that came there."""

    name: str
    epoch: str
    seq: int


class Append(Struct, frozen=True):
    """Publishes to one topic, each with an outcome of its own, or with ``together`` all of them or none.

    ``known``: an engine whose ``seq`` is lower in the same epoch has lost messages, and begins a new epoch first, even
    if there are no ``requests``. A
    topic whose epoch is another takes the publishes all the same; one that is gone refuses them with TopicNotFound.
    ``ts``: the time stamp of the events. ``sender``: the publisher's name for topics with the option ``sender``.
    ``lifetimes``: seconds for each publish, ``inf`` for none; empty if no publish has any.
    """

    known: Known
    requests: Sequence[Publish]
    ts: str
    sender: str
    lifetimes: Sequence[float]
    together: bool


class Create(Struct, frozen=True, array_like=True, tag=True):
    """A new topic. ``epoch``: made by the server that asks. ``most``: the limit for topics in all, 0 is none."""

    name: str
    epoch: str
    options: TopicOptions
    most: int


class Delete(Struct, frozen=True, array_like=True, tag=True):
    """The end of a topic. A topic of another epoch stays, with TopicNotFound.

    ``expect_seq``: a topic with another ``seq`` stays, with Conflict: it has messages that the server does not know.
    """

    known: Known
    expect_seq: int | None = None


class Purge(Struct, frozen=True, array_like=True, tag=True):
    """The end of all messages that a topic keeps."""

    known: Known


class Tell(Struct, frozen=True, array_like=True, tag=True):
    """A message of this server for all servers, this one too. ``kind``: who takes it there. It is not kept."""

    kind: str
    data: bytes


Operation = Append | Create | Delete | Purge | Tell

# The outcome of each operation. Create: None. Delete: None. Purge: the number of messages. Tell: None. Append: one
# outcome for each publish, in order, an Assignment or its Failure. Any of them: the one Failure for all of it.
Outcome = Sequence[Assignment | Failure] | int | Failure | None
Outcomes = Callable[[Sequence[Outcome]], None]

# What an engine tells


class State(Struct, frozen=True, array_like=True, tag=0):
    """A topic as the engine has it. ``base``: the ``seq`` at which its epoch began, 0 unless the epoch was renewed.

    ``before``: the epoch that was renewed then, empty if it was none or is not known. ``first``: the oldest message
    that it keeps, ``seq`` + 1 if it keeps none. ``size``: bytes of what it keeps.
    """

    name: str
    epoch: str
    options: TopicOptions
    seq: int = 0
    base: int = 0
    first: int = 1
    size: int = 0
    before: str = ""

    @property
    def renewed(self) -> bool:
        """True if this epoch goes on with the topic of an earlier one, and is no new topic."""
        return self.base > 0 or bool(self.before)


class Appended(Struct, frozen=True):
    """Messages that follow each other in a topic, as events; the time at which one ``expires`` is monotonic.

    ``kept`` and ``size``: what the topic keeps now, as ``first`` and ``size`` of a State.
    """

    name: str
    epoch: str
    events: Sequence[StoredEvent]
    kept: int
    size: int


class Deleted(Struct, frozen=True, array_like=True, tag=2):
    """A topic has ended."""

    name: str
    epoch: str


class Purged(Struct, frozen=True, array_like=True, tag=3):
    """A topic keeps no message up to ``seq`` any more."""

    name: str
    epoch: str
    seq: int


class Told(Struct, frozen=True, array_like=True, tag=4):
    """A message of a server, from its Tell. ``server``: its id."""

    server: str
    kind: str
    data: bytes


# A State tells of a topic that is new, or whose epoch is renewed, and else how far it is.
Record = State | Appended | Deleted | Purged | Told


class Follower(Protocol):
    """The journal, as its engine sees it."""

    def apply(self, record: Record) -> None:
        """Take the next record."""
        ...

    def synced(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        """All topics that the engine, or a part of it, has now have come as states: those with ``names``.

        ``holds``: True for the names of this part. What it holds and is not among ``names`` is gone.
        """
        ...

    def failing(self, reason: str, *, partly: bool = False) -> None:
        """The engine cannot be reached for this reason. It is empty once all is well again.

        ``partly``: only a part of it, or it is there and refuses some operations, because its disk or its memory is
        full. Then it refuses by itself what it cannot decide, and the rest goes on.
        """
        ...


class Engine(Protocol):
    """See the module. An engine connects by itself, and again after each loss, with growing pauses.

    ``server``: the id of this server among those of the engine. ``lasting``: the reason for which its durable topics
    may not last, empty if they do.
    """

    server: str
    lasting: str

    async def start(self, follower: Follower) -> None:
        """Begin. Raises JournalError if it can never work: a wrong password, a version that is too old.

        Returns after the first ``synced`` of each part, or after the first ``failing`` if one cannot be reached yet.
        """
        ...

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        """Have a batch decided, each operation once. ``outcomes`` gets one outcome for each.

        After a loss of the connection it is asked again, and not done twice. Outcomes come in the order of the batches.
        """
        ...

    def withdraw(self, outcomes: Outcomes) -> None:
        """Do not ask this batch again. ``outcomes`` is not called any more; it may be done all the same."""
        ...

    def sync(self, done: Callable[[Failure | None], None]) -> None:
        """Call ``done`` once all records of what the engine had decided when this was called have come."""
        ...

    def read(
        self, known: Known, after: int, until: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        """Read the oldest ``limit`` unexpired events after ``after``, up to ``until``; fewer if a page is full.

        Expired ones are left out. A topic that is gone, or of another epoch, is a TopicNotFound.
        """
        ...

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        """Find out if any event after ``after`` and up to ``until`` has expired or is gone."""
        ...

    async def stop(self) -> None:
        """Ask what waits, for a short time, then disconnect."""
        ...
