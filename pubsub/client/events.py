"""The items of a subscription, and positions in topics, as users see them. It must never decode JSON."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

from pubsub.client.requests import Position as WirePosition

__all__ = ["Event", "Gap", "GapReason", "Item", "Notice", "NoticeKind", "Position"]

T = TypeVar("T")

GapReason = Literal["dropped", "lost", "created_again"]
NoticeKind = Literal["topic_created", "topic_deleted", "unsubscribed", "joined", "left"]


class Position(WirePosition, frozen=True, gc=False):
    """The position of a subscription in one topic: the ``seq`` of its last message there, and the topic's ``epoch``.

    ``seq`` is 0 before the first message.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the form that JSON and the protocol have for it: ``{"epoch": "k3f9", "seq": 41}``."""
        return {"epoch": self.epoch, "seq": self.seq}


class Event(Struct, Generic[T], frozen=True):
    """A message of a topic.

    ``seq`` counts the messages of the topic from 1; ``epoch`` names one life of the topic. ``id`` is the publisher's
    UUID. ``ts`` is the time when the server took the message, as text (UTC, RFC 3339, whole seconds). ``sender`` is the
    ``client_id`` of its publisher on a topic with the option ``sender``, otherwise None.
    """

    topic: str
    seq: int
    epoch: str
    id: str
    payload: T
    ts: str
    sender: str | None = None

    @property
    def position(self) -> Position:
        """The position behind this event in its topic."""
        return Position(self.epoch, self.seq)


class Gap(Struct, frozen=True, gc=False):
    """Messages of a topic that the subscription does not get. It comes in their place, before later events.

    ``reason``: "dropped", the server or the client left them out because the subscription was too slow, and they were
    not asked for again (``mend=False``); "lost", the server no longer keeps them; "created_again", the topic is another
    one of the same name, whose ``epoch`` this is, and its messages follow from the first that it keeps; or those after
    ``to_seq``, if the servers lost the newest messages of the topic and it goes on without them.

    ``from_seq`` and ``to_seq`` are the bounds of what is missing, ``count`` the number of messages; each is None where
    it is not known.
    """

    topic: str
    epoch: str
    from_seq: int | None
    to_seq: int | None
    count: int | None
    reason: GapReason


class Notice(Struct, frozen=True, gc=False):
    """News of a topic, for a subscription with ``notices=True``.

    ``epoch`` comes with "topic_created", ``client_id`` with "joined" and "left", ``reason`` with "unsubscribed"
    ("forbidden" or "limit").
    """

    kind: NoticeKind
    topic: str
    client_id: str | None = None
    epoch: str | None = None
    reason: str | None = None


Item = Event[T] | Gap | Notice
