"""The clients of a run: subscribers that account for what comes, and the publisher that counts its acks."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from pubsub.bench.account import Account, Latencies
from pubsub.bench.plan import MIN_SIZE
from pubsub.bench.tape import TEXT, Fault, Frame, Tape, read_frame, read_piece, read_reply, sent_at
from pubsub.bench.wire import ANSWER_WAIT_SEC, Wire, client_frame
from pubsub.console.address import Unreachable
from pubsub.console.replies import Ack, Error, Event, Info, Reply

BUNCH: Final = 32
"""Messages with one send time and one write: 0.05 ms of work, by which the last of them may seem late."""


class Tally:
    """What all clients of a run add to."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.latencies = Latencies()
        self.tape = Tape()
        self.dropped = 0  # messages that the server told it did not deliver
        self.last_at = 0  # when an event or an ack came last, in nanoseconds
        self.fail = fail


class Subscriber(Wire):
    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.account = Account()
        self._tally = tally
        self._subscribed: asyncio.Future[None] | None = None

    async def subscribe(self, topic: str, client_id: str) -> None:
        """Raises Unreachable where no answer comes; a refusal goes to the tally."""
        self._subscribed = asyncio.get_running_loop().create_future()
        self.send(msgspec.json.encode({"type": "subscribe", "topic": topic, "client_id": client_id}))
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                await self._subscribed
        except TimeoutError:
            raise Unreachable(f"a subscribe was not answered within {ANSWER_WAIT_SEC:g} s") from None

    def feed(self, received: bytes) -> int:
        """Take events as pieces that another subscriber may have had already, all else by the frame."""
        now = time.monotonic_ns()
        tally, account, position = self._tally, self.account, 0
        while position < len(received):
            piece = tally.tape.get(account.expected)
            if piece is not None and received.startswith(piece.frames, position):
                account.take(piece.messages)
                position += len(piece.frames)
                for sent, messages in piece.batches:
                    tally.latencies.add(now - sent, messages)
                tally.last_at = now
            elif (piece := read_piece(received, position, account.expected)) is not None:
                tally.tape.add(account.expected, piece)
            elif (end := self._take_one(received, position)) > position:
                position = end
            else:
                break
        return position

    def _take_one(self, received: bytes, position: int) -> int:
        """Take one frame of whatever kind; the place where it ends, or ``position`` where it is not whole."""
        frame = read_frame(received, position)
        if frame is None:
            return position
        self.take_frame(received, frame)
        return frame.end

    def take(self, received: bytes, frame: Frame) -> None:
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
    """``acknowledged`` is called when acks have come."""

    def __init__(self, tally: Tally, topic: str, size: int, acknowledged: Callable[[], None]) -> None:
        super().__init__()
        self.published = 0
        self.acked = 0
        self._tally = tally
        self._acknowledged = acknowledged
        # For the message's number (in its id and in its payload) and its send time.
        self._form = (
            f'{{"type":"publish","topic":"{topic}","message":{{"id":"{secrets.token_hex(4)}-0000-4000-8000-%012x",'
            f'"payload":{{"n":"%012x","sent":"%016x","pad":"{"x" * (size - len(EMPTY_PAYLOAD))}"}}}}}}'
        ).encode()

    @property
    def in_flight(self) -> int:
        return self.published - self.acked

    def publish(self, count: int, sent: int) -> None:
        """Publish ``count`` messages with the send time ``sent`` (nanoseconds)."""
        numbers = range(self.published + 1, self.published + count + 1)
        masks = os.urandom(4 * count)
        self.published += count
        self.write(
            b"".join(
                client_frame(TEXT, self._form % (number, number, sent), masks[4 * at : 4 * at + 4])
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

    def take(self, received: bytes, frame: Frame) -> None:
        reply = read_reply(received, frame)
        if not isinstance(reply, Ack):
            refuse_failure(reply)
        elif reply.seq != self.acked + 1:
            raise Fault(f"publish #{self.acked + 1} was acknowledged as #{reply.seq}")
        else:
            self.acked += 1

    def fail(self, reason: str) -> None:
        self._tally.fail(f"the publisher: {reason}")


EMPTY_PAYLOAD: Final = '{"n":"000000000000","sent":"0000000000000000","pad":""}'
assert len(EMPTY_PAYLOAD) <= MIN_SIZE, "the least payload has room for what each must hold"


def refuse_failure(reply: Reply) -> None:
    """Nothing but a heartbeat may come in place of what was asked for."""
    match reply:
        case Info(msg="ping"):
            pass
        case Error(error=problem):
            raise Fault(f"the server answered {problem.code}: {problem.message}")
        case Info(msg=said):
            raise Fault(f"the server said {said!r}")
        case _:
            raise Fault("the server sent what was not asked for")
