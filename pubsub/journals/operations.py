"""The operations that the loop hands to the writing thread, and their results. No I/O."""

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
    """A publish. Its outcome is ``event``, or ``seq`` alone if its id was seen before, or ``failure``.

    ``publisher``: None if nobody waits for the outcome.
    """

    log: TopicHandle
    request: Publish
    publisher: Publisher | None
    ts: str
    seq: int = 0
    event: StoredEvent | None = None
    failure: Failure | None = None


class Create(Struct):
    """A new topic. Its outcome is ``number`` or ``failure``."""

    log: TopicHandle
    done: Done
    number: int = 0
    failure: Failure | None = None


class Delete(Struct):
    """The deletion of a topic. It is ``applied`` once a transaction has it; its outcome may be ``failure``."""

    log: TopicHandle
    done: Done
    applied: bool = False
    failure: Failure | None = None


class Mark(Struct):
    """No operation: ``done`` is called after all earlier operations."""

    done: Callable[[], None]


Operation = Append | Create | Delete | Mark


class Extent(Struct, frozen=True):
    """The extent of a topic on disk."""

    number: int
    first: int
    size: int


class Result(Struct):
    """The result of a group, or of a clean-up, of which there may be ``more`` to do.

    ``failure``: the reason, for the operator, for which nothing of it is on disk.
    """

    extents: list[Extent]
    failure: str = ""
    more: bool = False
