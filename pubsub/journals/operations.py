"""The operations that the loop hands to the writing thread, and the results that come back. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from pubsub.core.event import StoredEvent
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish, TopicOptions

if TYPE_CHECKING:
    from pubsub.core.log import Done, Publisher


class TopicHandle:
    """A topic as the writing thread knows it. ``number`` is its key in the database; 0 until it has one."""

    __slots__ = ("epoch", "name", "number", "options")

    def __init__(self, name: str, epoch: str, options: TopicOptions, number: int = 0) -> None:
        self.name = name
        self.epoch = epoch
        self.options = options
        self.number = number


class Append(Struct):
    """A publish. At its end it has ``event``, or ``seq`` alone where its id was seen before, or ``failure``.

    ``publisher``: None where nobody waits for it.
    """

    log: TopicHandle
    request: Publish
    publisher: Publisher | None
    ts: str
    seq: int = 0
    event: StoredEvent | None = None
    failure: Failure | None = None


class Create(Struct):
    """A new topic. At its end it has ``number``, or ``failure``."""

    log: TopicHandle
    done: Done
    number: int = 0
    failure: Failure | None = None


class Delete(Struct):
    """The end of a topic. It is ``applied`` once it stands in a commit, or may have ``failure``."""

    log: TopicHandle
    done: Done
    applied: bool = False
    failure: Failure | None = None


class Mark(Struct):
    """Nothing, for who wants to know that what came before has ended."""

    done: Callable[[], None]


Operation = Append | Create | Delete | Mark


class Extent(Struct, frozen=True):
    """How much of a topic is on disk."""

    number: int
    first: int
    size: int


class Result(Struct):
    """What came of a group, or of tidying, of which there may be ``more`` to do.

    ``failure``: why nothing of it is on disk, in words for the operator.
    """

    extents: list[Extent]
    failure: str = ""
    more: bool = False
