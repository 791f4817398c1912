"""Requests of a client: the protocol's own types, and their JSON. It must never send one."""

from typing import Final

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.patterns import check_topic, covers, has_wildcard
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import (
    MAX_HISTORY_LIMIT,
    MAX_POSITIONS,
    OVERFLOWS,
    Auth,
    History,
    Message,
    Ping,
    Position,
    Presence,
    Publish,
    Request,
    Subscribe,
    TopicOptions,
    Unsubscribe,
)

__all__ = [
    "MAX_HISTORY_LIMIT",
    "MAX_POSITIONS",
    "OVERFLOWS",
    "TOPIC_OPTIONS",
    "Auth",
    "History",
    "Message",
    "Ping",
    "Position",
    "Presence",
    "Publish",
    "Request",
    "Subscribe",
    "Unsubscribe",
    "covers",
    "encode",
    "has_wildcard",
    "is_topic",
]

TOPIC_OPTIONS: Final = TopicOptions.__struct_fields__
"""The names of the options of a topic."""


def is_topic(name: str) -> bool:
    """Return True if ``name`` can be the name of a topic."""
    try:
        check_topic(name)
    except BadRequest:
        return False
    return True
