"""What the server says, decoded. A frame of a shape that is not known here is kept as text: nothing raises."""

from dataclasses import dataclass

import msgspec


class Message(msgspec.Struct, frozen=True):
    id: str
    payload: msgspec.Raw


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Reply(msgspec.Struct, frozen=True, tag_field="type"):
    """Every answer carries the ``request_id`` of its request; what comes unasked has none."""

    request_id: str = ""


class Ack(_Reply, frozen=True, tag="ack"):
    topic: str = ""
    epoch: str = ""
    seq: int = 0
    duplicate: bool = False
    recovered: bool | None = None


class Event(_Reply, frozen=True, tag="event", kw_only=True):
    topic: str
    message: Message
    seq: int = 0


class Error(_Reply, frozen=True, tag="error", kw_only=True):
    error: Problem


class Pong(_Reply, frozen=True, tag="pong"):
    pass


class Info(_Reply, frozen=True, tag="info", kw_only=True):
    msg: str
    topic: str = ""
    count: int = 0
    from_seq: int = 0
    to_seq: int = 0
    reconnect_after_ms: float = 0


class History(_Reply, frozen=True, tag="history", kw_only=True):
    topic: str
    messages: list[Event]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame of another shape than this client knows."""

    text: str
    request_id: str = ""


Reply = Ack | Event | Error | Pong | Info | History | Unknown

_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Ack | Event | Error | Pong | Info | History)


def decode(text: str) -> Reply:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return Unknown(text)
