"""Ids of events as clients send them back: what they resume from. No I/O."""

from __future__ import annotations

import re
from typing import Final

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.protocol.requests import Position

# The last id of a client that an operator has disconnected. An EventSource sends it when it connects again, and the
# answer 204 stops it.
DISCONNECTED: Final = "disconnected"

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
