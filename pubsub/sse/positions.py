"""Ids of events as clients send them back, and the positions in topics for which they stand. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from pubsub.core.event import Source
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.protocol.requests import Position
from pubsub.sse.encoding import name_part, topic_key

# The last id of a client that an operator has disconnected. An EventSource sends it when it connects again, and the
# answer 204 stops it.
DISCONNECTED: Final = "disconnected"

NOWHERE: Final = Position("", 0)  # in no topic: everything that is kept is replayed, and nothing counts as recovered

_position = re.compile(r"([0-9A-Za-z_-]{1,64}):([0-9]{1,15})").fullmatch


def position_id(epoch: str, seq: int) -> bytes:
    """The id of the event ``seq`` in a stream of one topic."""
    return b"%b:%d" % (epoch.encode(), seq)


def read_position(text: str) -> Position:
    """The position in a topic. Raises BadRequest."""
    found = _position(text)
    if found is None:
        raise BadRequest(f"Last-Event-ID: expected the id of an event of this stream, epoch:seq, got {shown(text)}")
    return Position(found[1], int(found[2]))


class CursorPositions:
    """The positions of a client in several topics, as its cursor has them (Resume).

    ``seqs`` is None for a cursor that is no longer known. A topic without a position has appeared since, and is read
    from its beginning; so is one with another epoch, but not as recovered. ``find_topic`` finds a topic by its name.
    """

    def __init__(self, seqs: Mapping[int, int] | None, find_topic: Callable[[str], Source]) -> None:
        self._seqs = seqs
        self._names = {name_part(key) for key in seqs or ()}
        self._find_topic = find_topic

    def get(self, name: str, default: Position | None = None) -> Position | None:
        if self._seqs is None:
            return NOWHERE
        topic = self._find_topic(name)
        key = topic_key(topic)
        if key not in self._seqs and name_part(key) in self._names:
            return NOWHERE
        return Position(topic.epoch, self._seqs.get(key, 0))
