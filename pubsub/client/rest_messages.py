"""Messages as REST takes them, and the answers to them. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from pubsub.client.errors import ServerFault, Unreachable
from pubsub.client.http_connections import Reply, Request
from pubsub.client.outcomes import Published
from pubsub.client.payloads import encode_payload
from pubsub.client.rest_replies import error_of
from pubsub.protocol import answers
from pubsub.protocol.calls import NewMessage
from pubsub.protocol.replies import Event, encode
from pubsub.protocol.requests import MAX_MESSAGES

Answer = TypeVar("Answer")

MAX_BODY: Final = 2**20  # bytes of a list in one request: the server's default for MAX_MESSAGE_BYTES


def make_message(
    payload: Any, *, id: str | None = None, ttl_sec: float | None = None, expect_seq: int | None = None
) -> NewMessage:
    """Make a message with an id. Raises PayloadError."""
    return NewMessage(
        id=str(id or uuid.uuid4()),
        payload=encode_payload(payload),
        ttl_sec=UNSET if ttl_sec is None else ttl_sec,
        expect_seq=UNSET if expect_seq is None else expect_seq,
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The messages of one request, and its body."""

    messages: Sequence[NewMessage]
    body: bytes


def split(messages: Iterable[NewMessage]) -> Iterator[Chunk]:
    """Split messages into lists that a server takes, in order. A message that is too large is in a list of its own."""
    chunk: list[NewMessage] = []
    texts: list[bytes] = []
    size = 0
    for message in messages:
        text = encode(message)
        if chunk and (len(chunk) == MAX_MESSAGES or size + len(text) > MAX_BODY):
            yield Chunk(chunk, b"[%b]" % b",".join(texts))
            chunk, texts, size = [], [], 0
        chunk.append(message)
        texts.append(text)
        size += len(text) + len(b",")
    if chunk:
        yield Chunk(chunk, b"[%b]" % b",".join(texts))


def post_to(topic: str, body: bytes) -> Request:
    return Request("POST", _path_of(topic), body)


def read_published(reply: Reply, topic: str, messages: Sequence[NewMessage]) -> list[Published]:
    """Read the outcome of each message in a list. Raises Refused, TooBig, ServerFault."""
    return outcomes_of(_decode(reply, answers.Published), topic, messages)


def outcomes_of(found: answers.Published, topic: str, messages: Sequence[NewMessage]) -> list[Published]:
    """Return the outcome of each message in a list, from the answer to it. Raises ServerFault."""
    seqs = found.seq if isinstance(found.seq, list) else [found.seq]
    repeated = found.duplicate if isinstance(found.duplicate, list) else [found.duplicate is True] * len(seqs)
    if not len(messages) == len(seqs) == len(repeated):
        raise ServerFault(f"expected the outcomes of {len(messages)} messages, got {len(seqs)}")
    return [
        Published(topic, str(message.id), seq, duplicate)
        for message, seq, duplicate in zip(messages, seqs, repeated, strict=True)
    ]


def get_message(topic: str, seq: int) -> Request:
    """Make the request for the message that has this ``seq``, or for the next one that is kept."""
    return Request("GET", f"{_path_of(topic)}?after={seq - 1}&limit=1")


class _Kept(msgspec.Struct):
    messages: list[Event]


def find_id(reply: Reply, seq: int) -> str:
    """Return the id of the message that has this ``seq``. Raises Refused, ServerFault; Unreachable if it is gone."""
    for event in _decode(reply, _Kept).messages:
        if event.seq == seq:
            return event.message.id
    raise Unreachable("the topic no longer keeps it")


def _path_of(topic: str) -> str:
    return f"/topics/{quote(topic, safe='')}/messages"


def _decode(reply: Reply, kind: type[Answer]) -> Answer:
    if reply.status != HTTPStatus.OK:
        raise error_of(reply)
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ServerFault(f"expected an answer of the protocol, got another one: {error}") from None
