"""Requests of clients as types, and their decoding from text.

The names and shapes are the contract's (docs/protocol.md). No I/O, and no decision about topics or clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final, Literal, final, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import explain, shown
from pubsub.protocol.payloads import MAX_DEPTH, check_large_payload

MAX_REQUEST_ID: Final = 128
MAX_CLIENT_ID: Final = 255
MAX_HISTORY_LIMIT: Final = 1000
MAX_POSITIONS: Final = 10_000  # of a resume
MAX_MESSAGES: Final = 1000  # in one list of publishes
MAX_SEQ: Final = 2**53 - 1  # numbers above it are not exact in every client
MAX_KEPT: Final = 1_000_000_000  # messages in the history of a topic: some hundred GiB on a disk
MAX_SECONDS: Final = 315_576_000  # ten years

RequestId = Annotated[str, Meta(max_length=MAX_REQUEST_ID)]
ClientId = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
Count = Annotated[int, Meta(ge=0)]
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
Overflow = Literal["drop_oldest", "drop_newest", "latest", "disconnect"]
OVERFLOWS: Final = get_args(Overflow)


class Request(Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """The fields of every request. The answer has the same ``request_id``."""

    request_id: RequestId | UnsetType = UNSET


class Position(Struct, frozen=True, gc=False):
    """The position of a client in a topic: the ``seq`` of its last message, and the topic's ``epoch``."""

    epoch: str
    seq: Count


Positions = Annotated[dict[str, Position], Meta(max_length=MAX_POSITIONS)]


class Subscribe(Request, frozen=True, tag="subscribe"):
    """A subscription to a topic, or to all that a pattern covers.

    ``resume``: the client's positions by topic; it wins over ``last_n``. ``filter`` is CEL (docs/protocol.md).
    """

    topic: str
    client_id: ClientId
    last_n: Count = 0
    resume: Positions | UnsetType = UNSET
    filter: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class Unsubscribe(Request, frozen=True, tag="unsubscribe"):
    topic: str
    client_id: ClientId


class Message(Struct, frozen=True, gc=False):
    """A message as its publisher wrote it: ``payload`` has the same bytes."""

    id: str
    payload: Raw


@final
class Publish(Request, frozen=True, tag="publish"):
    """``expect_seq``: the message is published only if this is the ``seq`` of the topic at that moment."""

    topic: str
    message: Message
    ttl_sec: Seconds | UnsetType = UNSET
    expect_seq: Seq | UnsetType = UNSET


class Ping(Request, frozen=True, tag="ping"):
    pass


class History(Request, frozen=True, tag="history"):
    """A request for kept messages that match: ``limit`` of those after ``after``, or the last ``last_n``."""

    topic: str
    after: Count | UnsetType = UNSET
    last_n: Count | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_LIMIT)] = MAX_HISTORY_LIMIT
    filter: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class Auth(Request, frozen=True, tag="auth"):
    """The client's token: the first one, or a renewed one."""

    token: str


class Presence(Request, frozen=True, tag="presence"):
    """A request for the clients that are in a topic with the option ``presence``."""

    topic: str


class TopicOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a topic. None is the server's default for ``history``, and no limit for the others.

    ``sender``: events name the client that published them. ``presence``: the topic shows its clients.
    ``dead_letter``: the topic that gets what subscribers lose.
    """

    history: Annotated[int, Meta(ge=0, le=MAX_KEPT)] | None = None
    ttl_sec: Seconds | None = None
    durable: bool = False
    dedup_sec: Seconds | None = None
    overflow: Overflow = "drop_oldest"
    sender: bool = False
    presence: bool = False
    dead_letter: str | None = None


class NewTopic(TopicOptions, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /topics``."""

    name: str


AnyRequest = Subscribe | Unsubscribe | Publish | Ping | History | Auth | Presence

KINDS: Final = tuple(str(kind.__struct_config__.tag) for kind in get_args(AnyRequest))

_decode: Callable[[str], AnyRequest] = msgspec.json.Decoder(AnyRequest).decode


def decode_request(text: str) -> AnyRequest:
    """Decode a text message. Raises BadRequest, which names the field.

    The text must come from a strict UTF-8 decoder: the payload is passed on without a further check.
    """
    try:
        request = _decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, KINDS)
    if type(request) is Publish:
        check_message(request.message)
    elif type(request) is History and (request.after is UNSET) == (request.last_n is UNSET):
        raise BadRequest("after or last_n: expected one of them")
    return request


def decode_publishes(texts: Iterable[str]) -> list[Publish]:
    """Decode the first texts, as many as are valid publishes. The next one is for :func:`decode_request`."""
    found: list[Publish] = []
    try:
        for text in texts:
            request = _decode(text)
            if type(request) is not Publish:
                break
            check_message(request.message)
            found.append(request)
    except (msgspec.MsgspecError, RecursionError, BadRequest):
        pass
    return found


def check_message(message: Message) -> None:
    """Raise BadRequest for an id that is no UUID, and for a payload that other clients could not parse."""
    text = message.id
    if not text.isascii() or text.encode().translate(_HEX_AS_ZERO) != _UUID:  # here, because every publish passes it
        check_id(text, "message.id")
    if len(message.payload) > MAX_DEPTH:
        check_large_payload(bytes(message.payload))


def check_id(text: str, field: str) -> None:
    """Raise BadRequest for an id that is no UUID."""
    if not text.isascii() or text.encode().translate(_HEX_AS_ZERO) != _UUID:
        raise BadRequest(f"{field}: expected a UUID (8-4-4-4-12 hex digits), got {shown(text)}")


_HEX_AS_ZERO: Final = bytes.maketrans(b"0123456789abcdefABCDEF", b"0" * 22)
_UUID: Final = b"00000000-0000-0000-0000-000000000000"  # with each digit as zero


def is_uuid(text: str) -> bool:
    return text.isascii() and text.encode().translate(_HEX_AS_ZERO) == _UUID
