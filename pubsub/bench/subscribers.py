"""The subscribers of a run, over either transport, and the idle subscriptions to patterns. They must never publish."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import ClassVar, Final

from msgspec import UNSET, Raw
from yarl import URL

from pubsub.bench.account import Account
from pubsub.bench.clients import Tally
from pubsub.bench.event_stream import Block, EventStream
from pubsub.bench.filters import Filter
from pubsub.bench.pieces import (
    ReadEvent,
    read_compressed_event,
    read_framed_event,
    read_piece,
    read_reply,
    read_streamed_event,
    refuse_failure,
    sent_at,
)
from pubsub.bench.websocket import WebSocket
from pubsub.bench.wire import Wire
from pubsub.client import ServerFault, Unreachable
from pubsub.client.address import ANSWER_WAIT_SEC, events_url, websocket_url
from pubsub.client.credentials import Credentials
from pubsub.client.frames import COMPRESSED_KINDS, EXTENSION, FIN_DEFLATED, FrameBounds
from pubsub.client.replies import Ack, Event, Info, Reply, decode
from pubsub.client.requests import Subscribe, encode

PATTERNS_AT_ONCE: Final = 100
"""Requests without an answer yet, of one client with idle patterns: fewer than a server queues."""


class Subscriber(Wire):
    """A subscriber that counts events. ``READ_EVENT`` decodes one of its transport."""

    READ_EVENT: ClassVar[ReadEvent]

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.account = Account()
        self._tally = tally

    async def subscribe(
        self, base: URL, topic: str, client_id: str, credentials: Credentials, only: Filter | None
    ) -> None:
        """Connect and subscribe; raises Unreachable. A refusal of the subscribe goes to the tally."""
        raise NotImplementedError

    def feed(self, received: bytes) -> int:
        """Take events as pieces that another subscriber may have decoded already, all else one by one."""
        now = time.monotonic_ns()
        tally, account, position, read_event = self._tally, self.account, 0, type(self).READ_EVENT
        while position < len(received):
            piece = tally.pieces.get(account.expected)
            if piece is not None and received.startswith(piece.frames, position):
                account.take(piece.messages)
                tally.compressed += piece.compressed
                position += len(piece.frames)
                for sent, messages in piece.batches:
                    tally.latencies.add(now - sent, messages)
                tally.last_at = now
            elif (piece := read_piece(received, position, account.expected, read_event)) is not None:
                tally.pieces.add(account.expected, piece)
            elif (end := self.take_one(received, position)) > position:
                position = end
            else:
                break
        tally.received += position
        return position

    def take_reply(self, reply: Reply) -> None:
        match reply:
            case Event(seq=seq) as event:
                self.account.receive(seq)
                self._tally.last_at = time.monotonic_ns()
                self._tally.latencies.add(self._tally.last_at - sent_at(event), 1)
            case Info(msg="dropped", count=count):
                self._tally.dropped += count
            case _:
                refuse_failure(reply)

    def fail(self, reason: str) -> None:
        self._tally.fail(f"a subscriber: {reason}")


class WebSocketSubscriber(Subscriber, WebSocket):
    READ_EVENT = read_framed_event

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._subscribed: asyncio.Future[None] | None = None

    async def subscribe(
        self, base: URL, topic: str, client_id: str, credentials: Credentials, only: Filter | None
    ) -> None:
        await self.open(websocket_url(base, client_id), credentials)
        self._subscribed = asyncio.get_running_loop().create_future()
        self.send(encode(subscription(topic, client_id, only)))
        await answered(self._subscribed)

    def take(self, received: bytes, frame: FrameBounds) -> None:
        self._tally.compressed += frame.first == FIN_DEFLATED
        match read_reply(received, frame):
            case Ack():
                self._done()
            case reply:
                self.take_reply(reply)

    def fail(self, reason: str) -> None:
        self._done()
        super().fail(reason)

    def _done(self) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(None)
        self._subscribed = None


class CompressedSubscriber(WebSocketSubscriber):
    """A subscriber that offers permessage-deflate, and inflates each event once for all of them."""

    READ_EVENT = read_compressed_event
    KINDS = COMPRESSED_KINDS

    def head_fields(self) -> str:
        return f"{super().head_fields()}Sec-WebSocket-Extensions: {EXTENSION}\r\n"

    def check_head(self, head: bytes) -> None:
        super().check_head(head)
        if not re.search(rb"\r\nsec-websocket-extensions: *" + EXTENSION.encode(), head, re.IGNORECASE):
            raise ServerFault("the server does not agree to compression: is its COMPRESSION on?")


class StreamSubscriber(Subscriber, EventStream):
    READ_EVENT = read_streamed_event

    async def subscribe(
        self, base: URL, topic: str, client_id: str, credentials: Credentials, only: Filter | None
    ) -> None:
        query = {"client_id": client_id} | ({} if only is None else only.as_query())
        await self.open(events_url(base, topic, query), credentials)

    def take(self, block: Block) -> None:
        match decode(block.data.decode(errors="replace")):
            case Info(msg="subscribed"):
                pass  # it gives the position, as an ack does
            case reply:
                self.take_reply(reply)


class IdlePatterns(WebSocket):
    """A client with many subscriptions to patterns that cover no topic."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally
        self._waiting: Iterator[bytes] = iter(())
        self._unanswered = 0
        self._all_answered: asyncio.Future[None] | None = None

    async def subscribe_all(self, patterns: list[str], client_id: str) -> None:
        """Subscribe, and wait for the answers; raises Unreachable without them. A refusal goes to the tally."""
        self._waiting = (encode(subscription(pattern, client_id, None)) for pattern in patterns)
        self._unanswered = len(patterns)
        self._all_answered = asyncio.get_running_loop().create_future()
        for _ in range(PATTERNS_AT_ONCE):
            self._send_next()
        await answered(self._all_answered)

    def take(self, received: bytes, frame: FrameBounds) -> None:
        reply = read_reply(received, frame)
        if not isinstance(reply, Ack):
            return refuse_failure(reply)
        self._unanswered -= 1
        self._send_next()
        if not self._unanswered:
            self._done()
        return None

    def fail(self, reason: str) -> None:
        self._done()
        self._tally.fail(f"a client with idle patterns: {reason}")

    def _send_next(self) -> None:
        request = next(self._waiting, None)
        if request is not None:
            self.send(request)

    def _done(self) -> None:
        if self._all_answered is not None and not self._all_answered.done():
            self._all_answered.set_result(None)


def subscription(name: str, client_id: str, only: Filter | None) -> Subscribe:
    if only is None:
        return Subscribe(topic=name, client_id=client_id)
    params = Raw(only.params.encode()) if only.params else UNSET
    return Subscribe(topic=name, client_id=client_id, filter=only.text, params=params)


async def answered(outcome: asyncio.Future[None]) -> None:
    """Wait for an answer to a subscribe; raises Unreachable without one."""
    try:
        async with asyncio.timeout(ANSWER_WAIT_SEC):
            await outcome
    except TimeoutError:
        raise Unreachable(f"a subscribe was not answered within {ANSWER_WAIT_SEC:g} s") from None
