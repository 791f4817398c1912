"""The clients of a run: subscribers that count events, and the publisher that counts its acks.

They must never decide when to publish.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from pubsub.bench.account import Account, Latencies
from pubsub.bench.pieces import PieceCache, read_piece, read_reply, sent_at
from pubsub.bench.plan import MIN_SIZE
from pubsub.bench.wire import Wire
from pubsub.client.address import ANSWER_WAIT_SEC, Unreachable
from pubsub.client.frames import FIN_TEXT, FrameBounds, ServerFault, client_frame, read_frame
from pubsub.client.replies import Ack, Error, Event, Info, Reply
from pubsub.client.requests import Message, Publish, Subscribe, encode

BUNCH: Final = 32
"""Messages with one send time and one write: 0.05 ms of work, which the latency of the last one includes."""


class Tally:
    """The sums of all clients of a run."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.latencies = Latencies()
        self.pieces = PieceCache()
        self.dropped = 0  # messages that the server reported as dropped
        self.last_at = 0  # time of the last event or ack, in nanoseconds
        self.fail = fail


class Subscriber(Wire):
    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.account = Account()
        self._tally = tally
        self._subscribed: asyncio.Future[None] | None = None

    async def subscribe(self, topic: str, client_id: str) -> None:
        """Subscribe and wait for the answer; raises Unreachable without one. A refusal goes to the tally."""
        self._subscribed = asyncio.get_running_loop().create_future()
        self.send(encode(Subscribe(topic=topic, client_id=client_id)))
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                await self._subscribed
        except TimeoutError:
            raise Unreachable(f"a subscribe was not answered within {ANSWER_WAIT_SEC:g} s") from None

    def feed(self, received: bytes) -> int:
        """Take events as pieces that another subscriber may have decoded already, all else frame by frame."""
        now = time.monotonic_ns()
        tally, account, position = self._tally, self.account, 0
        while position < len(received):
            piece = tally.pieces.get(account.expected)
            if piece is not None and received.startswith(piece.frames, position):
                account.take(piece.messages)
                position += len(piece.frames)
                for sent, messages in piece.batches:
                    tally.latencies.add(now - sent, messages)
                tally.last_at = now
            elif (piece := read_piece(received, position, account.expected)) is not None:
                tally.pieces.add(account.expected, piece)
            elif (end := self._take_one(received, position)) > position:
                position = end
            else:
                break
        return position

    def _take_one(self, received: bytes, position: int) -> int:
        """Take one frame of any kind; return its end, or ``position`` if it is not whole."""
        frame = read_frame(received, position)
        if frame is None:
            return position
        self.take_frame(received, frame)
        return frame.end

    def take(self, received: bytes, frame: FrameBounds) -> None:
        match read_reply(received, frame):
            case Event(seq=seq) as event:
                self.account.receive(seq)
                self._tally.last_at = time.monotonic_ns()
                self._tally.latencies.add(self._tally.last_at - sent_at(event), 1)
            case Ack():
                self._done()
            case Info(msg="dropped", count=count):
                self._tally.dropped += count
            case reply:
                refuse_failure(reply)

    def fail(self, reason: str) -> None:
        self._done()
        self._tally.fail(f"a subscriber: {reason}")

    def _done(self) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(None)
        self._subscribed = None


class Publisher(Wire):
    """The client that publishes; ``acknowledged`` is called after acks have come."""

    def __init__(self, tally: Tally, topic: str, size: int, acknowledged: Callable[[], None]) -> None:
        super().__init__()
        self.published = 0
        self.acked = 0
        self._tally = tally
        self._acknowledged = acknowledged
        # A template with places for the message's number (in its id and in its payload) and its send time.
        payload = f'{{"n":"%012x","sent":"%016x","pad":"{"x" * (size - len(EMPTY_PAYLOAD))}"}}'
        message = Message(f"{secrets.token_hex(4)}-0000-4000-8000-%012x", Raw(payload.encode()))
        self._form = encode(Publish(topic=topic, message=message))

    @property
    def in_flight(self) -> int:
        return self.published - self.acked

    def publish(self, count: int, sent: int) -> None:
        """Publish ``count`` messages with the send time ``sent`` (ns)."""
        numbers = range(self.published + 1, self.published + count + 1)
        masks = os.urandom(4 * count)
        self.published += count
        self.write(
            b"".join(
                client_frame(FIN_TEXT, self._form % (number, number, sent), masks[4 * at : 4 * at + 4])
                for at, number in enumerate(numbers)
            )
        )

    def feed(self, received: bytes) -> int:
        before = self.acked
        end = super().feed(received)
        if self.acked != before:
            self._tally.last_at = time.monotonic_ns()
            self._acknowledged()
        return end

    def take(self, received: bytes, frame: FrameBounds) -> None:
        reply = read_reply(received, frame)
        if not isinstance(reply, Ack):
            refuse_failure(reply)
        elif reply.seq != self.acked + 1:
            raise ServerFault(f"publish #{self.acked + 1} was acknowledged as #{reply.seq}")
        else:
            self.acked += 1

    def fail(self, reason: str) -> None:
        self._tally.fail(f"the publisher: {reason}")


EMPTY_PAYLOAD: Final = '{"n":"000000000000","sent":"0000000000000000","pad":""}'
assert len(EMPTY_PAYLOAD) <= MIN_SIZE, "the smallest payload has room for number and send time"


def refuse_failure(reply: Reply) -> None:
    """Raise ServerFault for any message but a heartbeat."""
    match reply:
        case Info(msg="ping"):
            pass
        case Error(error=problem):
            raise ServerFault(f"the server answered {problem.code}: {problem.message}")
        case Info(msg=message):
            raise ServerFault(f"the server sent the info {message!r}")
        case _:
            raise ServerFault("the server sent a message that no request asked for")
