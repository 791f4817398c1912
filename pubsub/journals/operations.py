"""The operations that the loop hands to the writing thread, and their results. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.event import StoredEvent
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish, TopicOptions

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Assignment, Done, Publisher, Purged


class TopicHandle:
    """A topic as the writing thread knows it. ``number`` is its key in the database; 0 until it has one."""

    __slots__ = ("epoch", "name", "number", "options")

    def __init__(self, name: str, epoch: str, options: TopicOptions, number: int = 0) -> None:
        self.name = name
        self.epoch = epoch
        self.options = options
        self.number = number


class Extent(Struct, frozen=True):
    """The extent of a topic on disk."""

    number: int
    first: int
    size: int


Outcome = StoredEvent | int | Failure


class Append(Struct, gc=False):
    """Publishes of one publisher, each with an outcome: its event, or the ``seq`` of the first one with its id, or why
    it is refused. ``failure``: that of them all.

    ``publisher``: None if nobody waits for the outcome. Without ``gc``: there can be one for each publish, in no cycle
    that lasts, and the collector would go through all that wait.
    """

    log: TopicHandle
    requests: Sequence[Publish]
    publisher: Publisher | None
    ts: str
    sender: str | UnsetType = UNSET
    outcomes: Sequence[Outcome] = ()
    failure: Failure | None = None


class AppendAll(Struct):
    """A list of publishes, all or nothing. Its outcome is ``assignments`` and ``events``, or ``failure``."""

    log: TopicHandle
    requests: Sequence[Publish]
    done: Assigned
    ts: str
    sender: str | UnsetType = UNSET
    assignments: Sequence[Assignment] = ()
    events: Sequence[StoredEvent] = ()
    failure: Failure | None = None


class Create(Struct):
    """A new topic. Its outcome is ``number`` or ``failure``."""

    log: TopicHandle
    done: Done
    number: int = 0
    failure: Failure | None = None


class Delete(Struct):
    """The deletion of a topic. It is ``applied`` once a transaction has it; its outcome may be ``failure``.

    ``expect_seq``: see TopicLog.
    """

    log: TopicHandle
    done: Done
    expect_seq: int | UnsetType = UNSET
    applied: bool = False
    failure: Failure | None = None


class Purge(Struct):
    """The removal of all events of a topic. Its outcome is ``count``, the number of them, or ``failure``.

    ``before``: the extent of the topic before it, once a transaction has it.
    """

    log: TopicHandle
    done: Purged
    count: int = 0
    before: Extent | None = None
    failure: Failure | None = None


class Mark(Struct):
    """No operation: ``done`` is called after all earlier operations."""

    done: Callable[[], None]


Operation = Append | AppendAll | Create | Delete | Purge | Mark


class Result(Struct):
    """The result of a group, or of a clean-up, of which there may be ``more`` to do.

    ``failure``: the reason, for the operator, for which nothing of it is on disk. ``taken``: seconds.
    """

    extents: list[Extent]
    failure: str = ""
    taken: float = 0.0
    more: bool = False
