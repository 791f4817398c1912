"""One WebSocket client: bytes in, frames out, and flow control in both directions.

Together with its base class it is the only code that writes to a client after the handshake. It decides nothing about
topics: requests go to the Session, events come through the Subscriber. A connection has no task and no coroutine.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pubsub.auth.identity import Identity
from pubsub.protocol.deflate import Agreement, DeflateReader
from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frame_reader import Reader
from pubsub.protocol.frames import (
    CLOSE,
    PONG,
    Binary,
    CloseFrame,
    Fragment,
    InvalidClose,
    LongText,
    PingFrame,
    PongFrame,
    ProtocolFault,
    Received,
    close_frame,
    control_frame,
)
from pubsub.websocket.ending import Ending
from pubsub.websocket.frame_transport import FrameTransport
from pubsub.websocket.replies import PauseReason
from pubsub.websocket.upgrade import websocket_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from pubsub.websocket.services import Services

log = logging.getLogger(__name__)

# Frames served in one step; then other clients are served. One read may bring 40,000 frames, which take 50 ms.
TURN: Final = 100
READ_AT_ONCE: Final = 32  # text frames that are read in one call, and publishes that are appended together
EXPENSIVE: Final = 5  # of them may be expensive, 20 to 40 µs: all but accepted publishes; later ones wait their turn
# Bytes of one read after which there is more to read: uvloop would read 31 times more before it serves other clients.
FULL_READ: Final = 200_000


class Connection(FrameTransport):
    """See the module. Its Session sends answers through it (Replies)."""

    __slots__ = ("_reader",)

    def __init__(
        self,
        transport: asyncio.Transport,
        services: Services,
        *,
        client_id: str,
        named: bool,
        identity: Identity | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        super().__init__(transport, services, client_id=client_id, named=named, identity=identity, agreement=agreement)
        reads = Reader if agreement is None else DeflateReader
        self._reader: Reader | None = reads(services.limits.max_message_bytes, websocket_mask)

    def _stop_reading(self) -> None:
        self._reader = None

    # Bytes in

    def data_received(self, data: bytes) -> None:
        if self._reader is not None:
            self._services.meter.received += len(data)
            self._reader.feed(data)
            self._serve(self._reader)
            if len(data) >= FULL_READ:
                self._yield_turn(self._services.defer)

    def eof_received(self) -> bool:
        self._finish(Ending.HUNG_UP, "the client hung up")
        return False

    def _serve(self, reader: Reader) -> None:
        try:
            self._serve_frames(reader)
        except ProtocolFault as fault:
            self._fail(fault.close_reason, str(fault))
            if isinstance(fault, InvalidClose):
                self._finish(Ending(fault.close_reason), str(fault), close_frame(fault.close_reason))
        except Exception:
            log.exception("Internal error at client %(client_id)s", {"client_id": self.session.client_id})
            self._fail(CloseReason.SERVER_FAILURE, "internal error")

    def _serve_frames(self, reader: Reader) -> None:
        """Serve the received frames as long as the client takes its answers; after the end began, only its Close."""
        receive, receive_publishes = self.session.receive, self.session.receive_publishes
        left, most, expensive, message_ended, subscriber = TURN, READ_AT_ONCE, 0, False, self.subscriber
        # _must_wait, but here: a call for each read costs 0.05 µs of 4.
        while left > 0 and expensive < EXPENSIVE and not (self._end is None and (subscriber.blocked or self._pauses)):
            texts = reader.read_texts(most) if self._end is None else ()
            if texts:
                served = receive_publishes(texts) if len(texts) > 1 else 0
                if not served:
                    served = most = 1  # it is no publish, so it does not pay to read ahead
                    expensive += receive(texts[0])
                left -= served
                message_ended = True
                if reader.end_texts(served):
                    break
            elif (received := reader.read()) is None:
                break
            else:
                left -= 1
                message_ended = message_ended or type(received) in (str, Binary, LongText)
                if type(received) is str and self._end is None:
                    expensive += receive(received)
                elif type(received) is not Fragment:
                    self._control(received)
        else:
            if not self._must_wait:
                self._yield_turn(self._services.take_turn if expensive >= EXPENSIVE else self._services.defer)
        if left < TURN:
            self._seen = self._services.now()
        self._limit_message(reader, anew=message_ended or (left < TURN and not reader.within_message))

    @property
    def _must_wait(self) -> bool:
        """True if no frame may be served now. Once the end has begun, all are read: a Close may be among them."""
        return self._end is None and (self.subscriber.blocked or bool(self._pauses))

    def _limit_message(self, reader: Reader, *, anew: bool) -> None:
        """Start or end the time limit of an unfinished message. ``anew``: it is another one than before."""
        timers = self._services.timers
        if not reader.unfinished or self.subscriber.blocked or self._pauses or self._end is not None:
            if timers.unfinished:  # most of the time there is none, and a call costs 0.05 µs
                timers.end_message(self)
        else:
            timers.begin_message(self, anew=anew)

    def _yield_turn(self, later: Callable[[Callable[[], None]], object]) -> None:
        """Pause reading, and serve the rest after other clients. A client that is paused gets no second turn."""
        if self._reader is not None and self._transport.is_reading() and not self._transport.is_closing():
            self._transport.pause_reading()
            later(self._read_on)

    def _control(self, received: Received) -> None:
        if isinstance(received, CloseFrame):
            self._answer_close(received)
        elif self._end is None:
            if isinstance(received, PingFrame):
                self._reply_frame(control_frame(PONG, received.payload))
            elif isinstance(received, PongFrame):
                self._take_pong(received.payload)
            elif isinstance(received, Binary):
                self.session.receive_binary(received.payload)
            elif isinstance(received, LongText):
                self.pause(PauseReason.LONG_MESSAGE)
                self._services.take_turn(lambda: self._receive_long(received))

    def _receive_long(self, message: LongText) -> None:
        """Serve a long message, alone in this tick. Nothing later of this client was served before it."""
        try:
            if self._end is None:
                self.session.receive(message.decode())
        except ProtocolFault as fault:
            self._fail(fault.close_reason, str(fault))
        self.resume(PauseReason.LONG_MESSAGE)

    def _answer_close(self, received: CloseFrame) -> None:
        self.flush()
        answer = control_frame(CLOSE, b"" if received.code is None else received.code.to_bytes(2))
        self._finish(Ending.CLOSED_BY_CLIENT, f"closed by the client with {received.code or 'no code'}", answer)

    def _read_on(self) -> None:
        """Read again, if the client takes its answers, and serve what has come."""
        if self._reader is None or self._transport.is_closing():
            return
        if self._end is not None or not (self.subscriber.blocked or self._pauses):
            self._transport.resume_reading()
        self._serve(self._reader)
