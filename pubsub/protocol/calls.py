"""Query parameters and bodies of REST calls as types, and the decoding of bodies.

The names and shapes are the contract's (docs/protocol.md). No I/O, and no decision about topics or clients.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import explain, shown
from pubsub.protocol.patterns import MAX_TOPIC
from pubsub.protocol.requests import (
    MAX_CLIENT_ID,
    MAX_HISTORY_LIMIT,
    MAX_MESSAGES,
    Count,
    Message,
    Publish,
    Seconds,
    Seq,
    check_id,
    check_message,
)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_CURSOR: Final = 1 << 53
MAX_STREAM_TOPICS: Final = 100  # names and patterns of one stream; a pattern takes any number of topics

NamePart = Annotated[str, Meta(max_length=MAX_TOPIC)]
Scope = Literal["all", "server"]

CURSOR_SYNTAX: Final = r"(?:([A-Za-z0-9_\-]{1,64}):)?([0-9]{1,16})"

_match_cursor = re.compile(CURSOR_SYNTAX, re.ASCII).fullmatch
_could_be_in_a_name = re.compile(r"[A-Za-z0-9_\-:~.]*", re.ASCII).fullmatch


class ScopeQuery(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The servers of which an answer speaks: all that share their topics, or only the one that is asked."""

    scope: Scope = "all"


class TopicsQuery(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the topics: those whose name begins with ``prefix`` and comes after ``after``."""

    prefix: NamePart = ""
    after: NamePart = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


def check_names(wanted: TopicsQuery) -> None:
    """Raise BadRequest for a text that no name of a topic can have in it."""
    for field in ("prefix", "after"):
        text: str = getattr(wanted, field)
        if not _could_be_in_a_name(text):
            raise BadRequest(f"{field}: expected ASCII letters, digits and _ - . : ~, got {shown(text)}")


class HistoryQuery(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Kept messages of a topic that match: ``limit`` of those after ``after``, or the last ``last_n``.

    ``params`` is the JSON text of an object.
    """

    after: Count | UnsetType = UNSET
    last_n: Count | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_LIMIT)] = MAX_HISTORY_LIMIT
    filter: str | UnsetType = UNSET
    params: str | UnsetType = UNSET


class TopicStreamQuery(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The wishes of a client of Server-Sent Events. ``params`` is the JSON text of an object."""

    last_n: Count = 0
    last_event_id: str = ""
    filter: str | UnsetType = UNSET
    params: str | UnsetType = UNSET
    client_id: str = ""
    token: str = ""


class StreamQuery(TopicStreamQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same, with the names and patterns."""

    topic: Annotated[list[str], Meta(min_length=1, max_length=MAX_STREAM_TOPICS)]


class Redrive(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The letters whose messages are published again: ``limit`` of those after ``after``."""

    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_LIMIT)] = 100


class ClientsQuery(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the connections whose client's name begins with ``prefix``: open ones, or those that have ended."""

    ended: bool = False
    prefix: Annotated[str, Meta(max_length=MAX_CLIENT_ID)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str = "0"


class ClientQuery(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the connections of one client."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str = "0"


class SlowQuery(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The topic of which the slowest consumers are wanted; without it, those of all topics."""

    topic: NamePart | UnsetType = UNSET


class Cursor(NamedTuple):
    """A place in a list of connections: after the number ``after`` of a server, which is not named if it is asked."""

    server: str
    after: int


def read_cursor(text: str) -> Cursor:
    """Raises BadRequest."""
    match = _match_cursor(text)
    if match is None or int(match[2]) > MAX_CURSOR:
        raise BadRequest(f"cursor: expected the next of the page before, got {shown(text)}")
    return Cursor(match[1] or "", int(match[2]))


class TraceQuery(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A message, by its id or by topic and ``seq``."""

    message: str | UnsetType = UNSET
    topic: NamePart | UnsetType = UNSET
    seq: Seq | UnsetType = UNSET


class NewMessage(Struct, frozen=True, gc=False, kw_only=True):
    """A message to publish. The server makes an ``id`` where there is none. Unknown fields are ignored."""

    id: str | UnsetType = UNSET
    payload: Raw
    ttl_sec: Seconds | UnsetType = UNSET
    expect_seq: Seq | UnsetType = UNSET


NewMessages = NewMessage | Annotated[list[NewMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]

# Without the limits of the list: an error that comes from the decoder does not tell how many messages there are.
_decode_messages: Callable[[str], NewMessage | list[NewMessage]] = msgspec.json.Decoder(
    NewMessage | list[NewMessage]
).decode


def decode_messages(text: str) -> NewMessage | list[NewMessage]:
    """Decode the body of ``POST /topics/{name}/messages``: 0.1 µs a message. Raises BadRequest.

    The messages must be checked by :func:`make_publish`. The text must come from a strict UTF-8 decoder.
    """
    try:
        messages = _decode_messages(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, ())
    if isinstance(messages, list) and not 1 <= len(messages) <= MAX_MESSAGES:
        raise BadRequest(f"the list: expected 1 to {MAX_MESSAGES} messages, got {len(messages)}")
    return messages


def check_trace(wanted: TraceQuery) -> None:
    """Raise BadRequest unless there is either an id, or a topic and a ``seq``."""
    by_id, by_seq = wanted.message is not UNSET, wanted.seq is not UNSET
    if by_id == by_seq:
        raise BadRequest("message or seq: expected one of them")
    if by_seq and wanted.topic is UNSET:
        raise BadRequest("topic: required beside seq, but missing")
    if isinstance(wanted.message, str):
        check_id(wanted.message, "message")


def make_publish(topic: str, message: NewMessage, new_id: Callable[[], str], index: int | None = None) -> Publish:
    """Make a request of a message. Raises BadRequest, which has the ``index`` of a message in a list."""
    made = Message(new_id() if message.id is UNSET else message.id, message.payload)
    try:
        check_message(made)
    except BadRequest as failure:
        place = "" if index is None else f"[{index}]."
        raise BadRequest(place + str(failure).removeprefix("message.")) from None
    return Publish(topic=topic, message=made, ttl_sec=message.ttl_sec, expect_seq=message.expect_seq)
