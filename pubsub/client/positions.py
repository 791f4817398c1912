"""Positions in acks and requests, and those that users give back. It must never send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pubsub.client import requests
from pubsub.client.events import Position
from pubsub.client.replies import Ack
from pubsub.client.requests import MAX_POSITIONS, covers, has_wildcard
from pubsub.protocol.replies import TopicPosition

__all__ = ["limit_positions", "positions_of", "read_positions"]

MAX_RESUME_BYTES: Final = 900_000
"""The most that the positions of one request take: the server accepts 1 MiB. The other topics are replayed."""
POSITION_BYTES: Final = 64  # a position in JSON, without the name of its topic


def positions_of(name: str, ack: Ack) -> Mapping[str, TopicPosition]:
    """Return the positions in the ack of a subscribe: that of its topic, or those of its pattern's topics."""
    if has_wildcard(name):
        return ack.topics
    return {name: TopicPosition(ack.epoch, ack.seq, msgspec.UNSET if ack.recovered is None else ack.recovered)}


def limit_positions(positions: Iterable[tuple[str, Position]]) -> dict[str, requests.Position]:
    """Return as many of the positions as one request can have."""
    kept: dict[str, requests.Position] = {}
    size = 0
    for topic, position in positions:
        size += len(topic) + POSITION_BYTES
        if size > MAX_RESUME_BYTES or len(kept) == MAX_POSITIONS:
            break
        kept[topic] = position
    return kept


def read_positions(name: str, given: Mapping[str, Position | Mapping[str, Any]]) -> dict[str, Position]:
    """Read the positions that a user gives back, those of the topics that ``name`` covers. Raises ValueError."""
    try:
        return {
            topic: msgspec.convert(position, Position, from_attributes=True)
            for topic, position in given.items()
            if covers(name, topic)
        }
    except msgspec.ValidationError as error:
        raise ValueError(
            f'resume: expected positions by topic, such as {{"orders": {{"epoch": "k3f9", "seq": 41}}}}: {error}'
        ) from None
