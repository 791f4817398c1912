"""Replies and events of the server as types, and their encoding to JSON.

The names and shapes are the contract's (docs/protocol.md). No I/O.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from pubsub.protocol.errors import Conflict, Failure, RateLimited
from pubsub.protocol.requests import Message


class Event(Struct, frozen=True, gc=False, tag_field="type", tag="event"):
    """``sender``: the client that published it, on a topic with the option ``sender``."""

    topic: str
    message: Message
    seq: int
    ts: str
    sender: str | UnsetType = field(name="from", default=UNSET)


class Ack(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack", kw_only=True):
    """The answer to an unsubscribe; without a topic, the answer to an auth."""

    request_id: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    status: str
    ts: str


class PublishAck(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack"):
    """The answer to a publish. ``duplicate``: its id was seen before, and ``seq`` is that of the first.

    It is a type of its own and made by position, because each field costs every publish some time.
    """

    request_id: str | UnsetType
    topic: str
    status: str
    seq: int
    ts: str
    duplicate: bool | UnsetType = UNSET


class SubscribeAck(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack", kw_only=True):
    """The answer to a subscribe: the position of the topic. ``recovered``: nothing is missing after a resume."""

    request_id: str | UnsetType = UNSET
    topic: str
    status: str
    epoch: str
    seq: int
    recovered: bool | UnsetType = UNSET
    ts: str


class TopicPosition(Struct, frozen=True, gc=False, omit_defaults=True):
    """The position of one topic of a pattern. ``recovered``: nothing is missing there after a resume."""

    epoch: str
    seq: int
    recovered: bool | UnsetType = UNSET


class PatternAck(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack", kw_only=True):
    """The answer to a subscribe with a pattern. ``recovered``: nothing is missing in any topic after a resume."""

    request_id: str | UnsetType = UNSET
    topic: str
    status: str
    topics: dict[str, TopicPosition]
    recovered: bool | UnsetType = UNSET
    ts: str


class Problem(Struct, frozen=True, gc=False):
    code: str
    message: str
    retry_after_ms: int | UnsetType = UNSET
    seq: int | UnsetType = UNSET


class Error(Struct, frozen=True, gc=False, tag_field="type", tag="error", kw_only=True):
    request_id: str | UnsetType = UNSET
    error: Problem
    ts: str


class Pong(Struct, frozen=True, gc=False, tag_field="type", tag="pong", kw_only=True):
    request_id: str | UnsetType = UNSET
    ts: str


class Info(Struct, frozen=True, gc=False, tag_field="type", tag="info", kw_only=True):
    """A message that is no answer, such as ``ping``, ``topic_deleted`` or ``dropped``."""

    topic: str | UnsetType = UNSET
    msg: str
    client_id: str | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    topics: dict[str, TopicPosition] | UnsetType = UNSET
    count: int | UnsetType = UNSET
    from_seq: int | UnsetType = UNSET
    to_seq: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    reconnect_after_ms: int | UnsetType = UNSET
    ts: str


class HistoryReply(Struct, frozen=True, gc=False, tag_field="type", tag="history", kw_only=True):
    request_id: str | UnsetType = UNSET
    topic: str
    epoch: str
    messages: list[Raw]
    complete: bool
    ts: str


class PresentClient(Struct, frozen=True, gc=False):
    """A client that is in a topic. One without ``connections`` went away a moment ago, and may reconnect."""

    client_id: str
    connections: int


class PresenceReply(Struct, frozen=True, gc=False, tag_field="type", tag="presence", kw_only=True):
    """``count``: of all clients. ``clients``: the first ones by name."""

    request_id: str | UnsetType = UNSET
    topic: str
    count: int
    clients: list[PresentClient]
    ts: str


Reply = Event | Ack | PublishAck | SubscribeAck | PatternAck | Error | Pong | Info | HistoryReply | PresenceReply

encode = msgspec.json.Encoder().encode


def error_reply(failure: Failure, request_id: str | UnsetType, ts: str) -> Error:
    wait = failure.retry_after_ms if isinstance(failure, RateLimited) else UNSET
    seq = failure.seq if isinstance(failure, Conflict) else UNSET
    return Error(request_id=request_id, error=Problem(failure.code, str(failure), wait, seq), ts=ts)
