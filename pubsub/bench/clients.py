"""The publisher of a run, which counts its acks, and the sums of all clients. It must never decide when to publish."""

import os
import secrets
import time
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from pubsub.bench.account import Latencies
from pubsub.bench.pieces import PieceCache, read_reply, refuse_failure
from pubsub.bench.plan import MIN_SIZE
from pubsub.bench.websocket import WebSocket
from pubsub.client import ServerFault
from pubsub.client.frames import FIN_TEXT, FrameBounds, client_frame
from pubsub.client.replies import Ack
from pubsub.client.requests import Message, Publish, encode

BUNCH: Final = 32
"""Messages with one send time and one write: 0.05 ms of work, which the latency of the last one includes."""


class Tally:
    """The sums of all clients of a run."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.latencies = Latencies()
        self.pieces = PieceCache()
        self.dropped = 0  # messages that the server reported as dropped
        self.received = 0  # bytes of the subscribers, without the heads of their connections
        self.compressed = 0  # frames of theirs
        self.last_at = 0  # time of the last event or ack, in nanoseconds
        self.fail = fail


class Publisher(WebSocket):
    """The client that publishes; ``acknowledged`` is called after acks have come."""

    def __init__(
        self, tally: Tally, topic: str, fill: Callable[[int], str], size: int, acknowledged: Callable[[], None]
    ) -> None:
        super().__init__()
        self.published = 0
        self.acked = 0
        self._tally = tally
        self._acknowledged = acknowledged
        # A template with places for the message's number (in its id and in its payload) and its send time.
        payload = f'{{"n":"%012x","sent":"%016x","pad":"{fill(size - len(EMPTY_PAYLOAD))}"}}'
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
