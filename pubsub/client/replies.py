"""Messages of the server, decoded. A message that is not known here is kept as text: nothing raises.

A message whose fields are always there has the protocol's own type. ``Ack``, ``Info`` and ``HistoryReply`` have types
of the client: each is several messages on the wire, and here a field that did not come has a default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from pubsub.protocol.replies import Error, Event, Pong, PresenceReply, TopicPosition

__all__ = ["UNDECODABLE", "Ack", "Error", "Event", "HistoryReply", "Info", "Known", "Pong", "PresenceReply", "Reply",
           "Unknown", "decode", "decode_known", "request_id_of"]  # fmt: skip


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="ack"):
    """The answer to a subscribe, an unsubscribe, a publish or an auth.

    ``topics``: those of a pattern. ``recovered`` is None without a resume.
    """

    request_id: str = ""
    topic: str = ""
    epoch: str = ""
    seq: int = 0
    topics: dict[str, TopicPosition] = {}
    duplicate: bool = False
    recovered: bool | None = None


class Info(msgspec.Struct, frozen=True, tag_field="type", tag="info", kw_only=True):
    """A message that no request asked for."""

    msg: str
    topic: str = ""
    epoch: str = ""
    seq: int = 0
    reason: str = ""
    client_id: str = ""
    count: int = 0
    from_seq: int = 0
    to_seq: int = 0
    reconnect_after_ms: float = 0


class HistoryReply(msgspec.Struct, frozen=True, tag_field="type", tag="history", kw_only=True):
    request_id: str = ""
    topic: str
    epoch: str = ""
    messages: list[Event]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type or shape that this client does not know."""

    text: str


Reply = Ack | Event | Error | Pong | Info | HistoryReply | PresenceReply | Unknown

Known = Ack | Event | Error | Pong | Info | HistoryReply | PresenceReply

decode_known: Callable[[str | bytes], Known] = msgspec.json.Decoder(Known).decode
"""Decode a message; raises one of UNDECODABLE."""
UNDECODABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)


def decode(text: str | bytes) -> Reply:
    try:
        return decode_known(text)
    except UNDECODABLE:
        return Unknown(text if isinstance(text, str) else text.decode(errors="replace"))


def request_id_of(reply: Reply) -> str:
    """Return the id of the request that ``reply`` answers; empty for a message that answers none."""
    match reply:
        case Ack() | Error() | Pong() | HistoryReply() | PresenceReply():
            return reply.request_id or ""
        case Event() | Info() | Unknown():
            return ""
