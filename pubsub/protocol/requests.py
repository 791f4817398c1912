"""What clients ask and what they are told, as types: requests decoded from text, replies and events encoded to JSON.

The names and shapes are the contract's (docs/protocol.md). No I/O, and no decision about topics or clients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Annotated, Any, Final, Literal, NoReturn, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pubsub.protocol.errors import BadRequest, Failure, RateLimited

MAX_REQUEST_ID: Final = 128
MAX_CLIENT_ID: Final = 255
MAX_HISTORY_LIMIT: Final = 1000
MAX_KEPT: Final = 1_000_000_000  # messages that a topic may be told to keep: some hundred GiB on a disk
MAX_SECONDS: Final = 315_576_000  # ten years
MAX_DEPTH: Final = 512  # levels of nesting in a payload: CPython's own json gives up at 990, or less deep in a program

RequestId = Annotated[str, Meta(max_length=MAX_REQUEST_ID)]
ClientId = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
Overflow = Literal["drop_oldest", "drop_newest", "latest", "disconnect"]

_is_topic = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9_\-:~]+(?:\.[A-Za-z0-9_\-:~]+)*", re.ASCII).fullmatch
# CPython's own json refuses integers with more digits (sys.set_int_max_str_digits), and with it most Python clients.
_MAX_DIGITS: Final = 4300
_TOO_MANY_DIGITS: Final = b"0" * (_MAX_DIGITS + 1)
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)


class Request(Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """What any request may carry. ``request_id`` comes back in the answer."""

    request_id: RequestId | UnsetType = UNSET


class Position(Struct, frozen=True, gc=False):
    """How far a client has read a topic: the ``seq`` of its last message in the life that ``epoch`` names."""

    epoch: str
    seq: Count


class Subscribe(Request, frozen=True, tag="subscribe"):
    """``resume``: how far topics have been read, by name; it wins over ``last_n``."""

    topic: str
    client_id: ClientId
    last_n: Count = 0
    resume: dict[str, Position] | UnsetType = UNSET


class Unsubscribe(Request, frozen=True, tag="unsubscribe"):
    topic: str
    client_id: ClientId


class Message(Struct, frozen=True, gc=False):
    """A message as its publisher wrote it: ``payload`` holds the very bytes."""

    id: str
    payload: Raw


class Publish(Request, frozen=True, tag="publish"):
    topic: str
    message: Message
    ttl_sec: Seconds | UnsetType = UNSET


class Ping(Request, frozen=True, tag="ping"):
    pass


class History(Request, frozen=True, tag="history"):
    """Asks for kept messages: ``limit`` of those after ``after``, or the ``last_n``."""

    topic: str
    after: Count | UnsetType = UNSET
    last_n: Count | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_LIMIT)] = MAX_HISTORY_LIMIT


class Auth(Request, frozen=True, tag="auth"):
    """Says who the client is, for the first time or anew."""

    token: str


class TopicOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a topic's maker may choose. None is the server's default for ``history``, and none for the rest."""

    history: Annotated[int, Meta(ge=0, le=MAX_KEPT)] | None = None
    ttl_sec: Seconds | None = None
    durable: bool = False
    dedup_sec: Seconds | None = None
    overflow: Overflow = "drop_oldest"


class NewTopic(TopicOptions, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /topics``."""

    name: str


AnyRequest = Subscribe | Unsubscribe | Publish | Ping | History | Auth

_decode: Callable[[str], AnyRequest] = msgspec.json.Decoder(AnyRequest).decode


def decode_request(text: str) -> AnyRequest:
    """The request that a text message holds; BadRequest, which names the field, where it holds none.

    The text must come from a strict UTF-8 decoder: what stands in a payload is passed on without another look.
    """
    try:
        request = _decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text)
    if type(request) is Publish:
        check_message(request.message)
    elif type(request) is History and (request.after is UNSET) == (request.last_n is UNSET):
        raise BadRequest("after or last_n: expected one of them")
    return request


def check_message(message: Message) -> None:
    """BadRequest for an id that is no UUID and for a payload that other clients could not parse."""
    if not is_uuid(message.id):
        raise BadRequest(f"message.id: expected a UUID (8-4-4-4-12 hex digits), got {_shown(message.id)}")
    if len(message.payload) > MAX_DEPTH:
        _check_large_payload(bytes(message.payload))


_HEX_AS_ZERO: Final = bytes.maketrans(b"0123456789abcdefABCDEF", b"0" * 22)


def is_uuid(text: str) -> bool:
    return text.isascii() and text.encode().translate(_HEX_AS_ZERO) == b"00000000-0000-0000-0000-000000000000"


def _check_large_payload(payload: bytes) -> None:
    # "in" takes a tenth of a count, and most long payloads are a string.
    opened = (b"[" in payload and payload.count(b"[")) + (b"{" in payload and payload.count(b"{"))
    if opened > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise BadRequest(f"message.payload: expected at most {MAX_DEPTH} levels of nesting")
    if _has_many_digits(payload):
        try:
            json.loads(payload)
        except ValueError:
            raise BadRequest(f"message.payload: expected numbers of at most {_MAX_DIGITS} digits") from None


def _has_many_digits(payload: bytes) -> bool:
    """In a string or in a number. Up to 1 ms for a MiB; a regular expression takes 3 s where digits almost suffice."""
    if len(payload) <= _MAX_DIGITS or not any(
        # So many beside each other fill at least one of these blocks: most payloads are done with here.
        payload[at : at + _MAX_DIGITS // 2].isdigit()
        for at in range(0, len(payload), _MAX_DIGITS // 2)
    ):
        return False
    return _TOO_MANY_DIGITS in payload.translate(_DIGITS_AS_ZERO)


def _depth(payload: bytes) -> int:
    """How deep valid JSON is nested: 4 ms for a MiB of small objects, 18 for the worst, 5 µs for a KiB.

    In steps that each run in C. Two quotes beside each other are an empty string, or the seam of two strings whose
    contents may as well be one.
    """
    without_escapes = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = without_escapes.translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    levels = 0
    while len(flatter := brackets.replace(b"[]", b"")) < len(brackets) * 7 // 8:  # worth a pass: the innermost go
        brackets, levels = flatter, levels + 1
    slopes = brackets.split(b"[]")[:-1]  # each leads up to a peak, the innermost of those that are left
    peaks = accumulate(2 * slope.count(b"[") - len(slope) for slope in slopes)
    return levels + max(peaks, default=-1) + 1


_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_MARKS: Final = bytes(set(range(256)) - set(b'[{]}"'))


def check_topic(name: str) -> None:
    """BadRequest for what can't be a topic's name."""
    if not _is_topic(name):
        raise BadRequest(
            "topic: expected 1 to 255 of ASCII letters, digits and _ - : ~ in segments parted by '.', "
            f"got {_shown(name)}"
        )


def request_id_of(text: str) -> str | UnsetType:
    """The ``request_id`` of a message that was refused, where it is a JSON object with a string there."""
    try:
        found = _decode_bare(text).request_id
    except msgspec.MsgspecError:
        return UNSET
    except RecursionError:
        found = _find_request_id(text)
    return found if isinstance(found, str) else UNSET


def explain(error: Exception, text: str) -> NoReturn:
    """Raise BadRequest in the words of the contract's users: the field, what was expected, what came."""
    if isinstance(error, RecursionError):
        raise BadRequest("not JSON that can be read: nested too deep") from None
    if not isinstance(error, msgspec.ValidationError):
        raise BadRequest(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    wanted, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(.+)`", wanted):
        raise BadRequest(f"{path + '.' if path else ''}{missing[1]}: required, but missing") from None
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", wanted, re.DOTALL):
        raise BadRequest(f"{_shown(unknown[1])}: unknown here") from None
    if wanted.startswith("Invalid value "):
        wanted = f"expected one of {', '.join(TYPES)}"
    elif wanted.startswith("Invalid enum value "):
        wanted = f"expected one of {', '.join(get_args(Overflow))}"
    elif wanted.endswith("out of range"):
        wanted = "expected a number in range"
    wanted = re.sub(r", got `.*", "", wanted).replace("Expected", "expected", 1).replace(" | null`", "`")
    for name, words in _WORDS.items():
        wanted = wanted.replace(name, words)
    raise BadRequest(f"{path or 'the message'}: {wanted}, got {_found(text, path)}") from None


_WORDS: Final = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a string",
    "`object`": "a JSON object",
    "`bool`": "a boolean",
}
TYPES: Final = tuple(str(kind.__struct_config__.tag) for kind in (Subscribe, Unsubscribe, Publish, Ping, History, Auth))


def _found(text: str, path: str) -> str:
    if path.startswith("token"):
        return "something else"  # which may be a token all the same
    try:
        value: Any = msgspec.json.decode(text)
        for key in path.split(".") if path else ():
            value = value[key]
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError):
        return "something else"
    return _shown(value)


def _shown(value: object) -> str:
    """A value for an error text: one line, short, with everything unprintable escaped."""
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else repr(value)
    return text if len(text) <= 64 else f"{text[:60]}…"


class _Bare(Struct):
    request_id: Any = None


_decode_bare = msgspec.json.Decoder(_Bare).decode
_MAX_KEYS: Final = 1000  # places where a text says request_id, outermost or not, that are looked at: 1 µs each


def _find_request_id(text: str) -> object:
    """The value at the top of an object that is nested too deep to decode; of two the last, as everywhere.

    In steps that each run in C: a MiB takes 35 ms at worst, and 100 with escapes, where a look at each token took 400.
    """
    quotes_only_at_ends = text.replace("\\\\", "\0\0").replace('\\"', "\0\0")  # at the same places as in the text
    parts = quotes_only_at_ends.split('"')
    outside, strings = parts[::2], parts[1::2]
    keys = strings if "\\u" not in quotes_only_at_ends else [_respelled(string) for string in strings]
    depth, start, found = 0, 0, None
    for _ in range(_MAX_KEYS):
        try:
            at = keys.index("request_id", start)
        except ValueError:
            break
        between = "".join(outside[start : at + 1])
        depth += sum(map(between.count, "{[")) - sum(map(between.count, "}]"))
        if depth == 1 and outside[at].rstrip()[-1:] in ("{", ",") and at + 1 < len(strings):
            found = at + 1 if outside[at + 1].strip() == ":" else None
        start = at + 1
    if found is None or not text.lstrip().startswith("{"):
        return None
    begin = sum(map(len, parts[: 2 * found + 1])) + 2 * found
    return _decode_string(text[begin : begin + len(strings[found]) + 2])


def _respelled(string: str) -> object:
    """A string without its escapes, where it may be the key that is looked for: each escape is five longer."""
    could_be = len(string) == len("request_id") + 5 * string.count("\\u")
    return _decode_string(f'"{string}"') if could_be else string


def _decode_string(token: str) -> object:
    try:
        return msgspec.json.decode(token)
    except msgspec.MsgspecError:
        return None


class Event(Struct, frozen=True, gc=False, tag_field="type", tag="event"):
    topic: str
    message: Message
    seq: int
    ts: str


class Ack(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack", kw_only=True):
    """The answer to an unsubscribe; without a topic, that to an auth."""

    request_id: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    status: str
    ts: str


class PublishAck(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack"):
    """The answer to a publish. ``duplicate``: its id was seen before, and ``seq`` is that of the first.

    Apart from the others, and made by position: a publish pays for every field that its ack might have.
    """

    request_id: str | UnsetType
    topic: str
    status: str
    seq: int
    ts: str
    duplicate: bool | UnsetType = UNSET


class SubscribeAck(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="ack", kw_only=True):
    """The answer to a subscribe: where the topic is, and whether nothing is missing after a resume."""

    request_id: str | UnsetType = UNSET
    topic: str
    status: str
    epoch: str
    seq: int
    recovered: bool | UnsetType = UNSET
    ts: str


class Problem(Struct, frozen=True, gc=False):
    code: str
    message: str
    retry_after_ms: int | UnsetType = UNSET


class Error(Struct, frozen=True, gc=False, tag_field="type", tag="error", kw_only=True):
    request_id: str | UnsetType = UNSET
    error: Problem
    ts: str


class Pong(Struct, frozen=True, gc=False, tag_field="type", tag="pong", kw_only=True):
    request_id: str | UnsetType = UNSET
    ts: str


class Info(Struct, frozen=True, gc=False, tag_field="type", tag="info", kw_only=True):
    """What the server says unasked: ``ping``, ``topic_deleted``, ``unsubscribed``, ``dropped``, ``draining``."""

    topic: str | UnsetType = UNSET
    msg: str
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


Reply = Event | Ack | PublishAck | SubscribeAck | Error | Pong | Info | HistoryReply

encode = msgspec.json.Encoder().encode


def error_reply(failure: Failure, request_id: str | UnsetType, ts: str) -> Error:
    wait = failure.retry_after_ms if isinstance(failure, RateLimited) else UNSET
    return Error(request_id=request_id, error=Problem(failure.code, str(failure), wait), ts=ts)
