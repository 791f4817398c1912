"""Requests of a client: the protocol's own types, and their JSON. It must never send one."""

import uuid

from msgspec import Raw

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.patterns import check_topic
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import (
    History,
    Message,
    Ping,
    Position,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
)

__all__ = [
    "History",
    "Message",
    "Ping",
    "Position",
    "Publish",
    "Request",
    "Subscribe",
    "Unsubscribe",
    "encode",
    "is_topic",
    "new_message",
]


def new_message(payload: str) -> Message:
    """Make a message with an id of its own; ``payload`` is JSON text, which is sent as it is."""
    return Message(str(uuid.uuid4()), Raw(payload.encode()))


def is_topic(name: str) -> bool:
    """Return True if ``name`` can be the name of a topic."""
    try:
        check_topic(name)
    except BadRequest:
        return False
    return True
