"""One WebSocket client's transport: bytes in, frames out, flow control both ways, and the end of it.

The only code that writes to a client after the handshake. It decides nothing about topics: requests go to the Session,
events come through the Subscriber. No task, no future and no coroutine for a connection.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss
from pubsub.protocol.errors import Goodbye, SlowConsumer
from pubsub.protocol.frames import (
    CLOSE,
    PONG,
    Binary,
    Close,
    Fragment,
    InvalidClose,
    LongText,
    Ping,
    ProtocolFault,
    Reader,
    Received,
    close_frame,
    control_frame,
    text_frame,
)
from pubsub.protocol.replies import Info, encode, error_reply
from pubsub.system.tcp_info import Traffic, Uptake, traffic, uptake
from pubsub.websocket.session import Hold
from pubsub.websocket.upgrade import websocket_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from pubsub.websocket.connections import Connections

log = logging.getLogger(__name__)

# The transport's own buffer, beyond the kernel's: over the first figure the client is blocked, under the second it is
# written to again. Large enough for a burst on a long line, small enough to stand behind each stalled client.
WRITE_BUFFER_HIGH: Final = 256 * 1024
WRITE_BUFFER_LOW: Final = 64 * 1024
REPLY_BYTES: Final = 64 * 1024  # answers are written at the end of the tick, or when they come to this
# Frames that are served at a stretch; then it is the others' turn. One read may bring 40,000 of them, which take 50 ms.
TURN: Final = range(100)
DEAR: Final = 5  # of them may be other than publishes that are taken in: those take 20 to 40 µs, and wait their turn
FULL_READ: Final = 200_000  # bytes: there is more to read, and uvloop would read 31 times more before others' turn
CLOSE_WAIT: Final = 0.9  # seconds from the server's close frame to the end, whatever the client does

NOTHING_TAKEN: Final = Uptake(0, behind=False)


class Connection(asyncio.Protocol):
    """See the module. It takes over a transport whose handshake is done; :meth:`open` begins.

    ``number``, ``next_ping`` and ``slot`` belong to Connections, which keeps the time.
    """

    __slots__ = (
        "_abort_timer",
        "_claimed",
        "_connections",
        "_end_reason",
        "_farewell",
        "_holds",
        "_opened",
        "_reader",
        "_replies",
        "_reply_bytes",
        "_seen",
        "_transport",
        "_uptake",
        "next_ping",
        "number",
        "session",
        "slot",
        "subscriber",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        connections: Connections,
        *,
        client_id: str,
        named: bool,
        identity: Identity | None = None,
    ) -> None:
        self._transport = transport
        self._connections = connections
        self._reader: Reader | None = Reader(connections.limits.max_message_bytes, websocket_mask)
        self._replies: list[bytes] | None = None  # those of this tick
        self._reply_bytes = 0
        self._end_reason = ""  # why, once the end has begun
        self._farewell: Goodbye | None = None  # at shutdown: to be said when nothing waits any more
        self._abort_timer: asyncio.TimerHandle | None = None
        self.subscriber = Subscriber(transport.write, connections.outbox_options)
        self.session = connections.session_type(
            connections.broker,
            self.subscriber,
            self,
            connections.clock,
            client_id=client_id,
            named=named,
            rules=connections.rules,
            identity=identity,
        )
        self._seen = self._opened = connections.now()
        self._uptake = NOTHING_TAKEN
        self._holds = 0  # the reasons for which the session waits, one bit of Hold each
        self._claimed: str | None = None  # the client whose quota this connection is a part of
        self.next_ping = 0.0
        self.number = 0
        self.slot = 0
        if named and not self.session.lacks_identity:
            self._claim()

    def _claim(self) -> None:
        if self._claimed is None:
            self._claimed = self.session.client_id
            self._connections.quotas.claim(self._claimed)

    def open(self) -> None:
        """Take the transport over."""
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH, low=WRITE_BUFFER_LOW)
        self._transport.set_protocol(self)
        self._connections.add(self)
        log.info("Client connected: %(client_id)s", {"client_id": self.session.client_id})

    # Bytes in

    def data_received(self, data: bytes) -> None:
        if self._reader is not None:
            self._reader.feed(data)
            self._serve(self._reader)
            if len(data) >= FULL_READ:
                self._let_others(self._connections.defer)

    def eof_received(self) -> bool:
        self._end("the client hung up")
        return False

    def _serve(self, reader: Reader) -> None:
        """Serve what has come, for as long as the client takes what it is sent; in the end only look for its Close."""
        subscriber, read, receive = self.subscriber, reader.read, self.session.receive
        frame_came = message_ended = more_to_come = False
        dear = 0
        try:
            for _ in TURN:
                if (subscriber.blocked or self._holds) and not self._end_reason:
                    break
                received = read()
                if received is None:
                    break
                frame_came = True
                if type(received) is str and not self._end_reason:
                    message_ended = True
                    dear += receive(received)
                    if dear == DEAR:
                        break
                elif type(received) is not Fragment:
                    message_ended = message_ended or type(received) in (Binary, LongText)
                    self._control(received)
            else:
                more_to_come = True
        except ProtocolFault as fault:
            self._fail(fault.goodbye, str(fault))
            if isinstance(fault, InvalidClose):
                self._end(str(fault), close_frame(fault.goodbye) if self._owes_close else b"")
            return
        except Exception:
            log.exception("Internal error at client %(client_id)s", {"client_id": self.session.client_id})
            self._fail(Goodbye.SERVER_FAILURE, "internal error")
            return
        if frame_came:
            self._seen = self._connections.now()
            message_ended = message_ended or not reader.within_message
        if not reader.unfinished or subscriber.blocked or self._holds or self._end_reason:
            self._connections.end_message(self)
        else:
            self._connections.begin_message(self, anew=message_ended)
        if dear == DEAR:
            self._let_others(self._connections.take_turn)
        elif more_to_come:
            self._let_others(self._connections.defer)

    def _let_others(self, later: Callable[[Callable[[], None]], object]) -> None:
        """Come back to what is left when everybody else has had a turn.

        Who is not read from already is come back to for that reason, and has no second turn.
        """
        if self._reader is not None and self._transport.is_reading() and not self._transport.is_closing():
            self._transport.pause_reading()
            later(self._read_on)

    def _control(self, received: Received) -> None:
        if isinstance(received, Close):
            self._answer_close(received)
        elif not self._end_reason:
            if isinstance(received, Ping):
                self.reply(control_frame(PONG, received.payload))
            elif isinstance(received, Binary):
                self.session.receive_binary(received.payload)
            elif isinstance(received, LongText):
                self.hold(Hold.LONG_MESSAGE)
                self._connections.take_turn(lambda: self._receive_long(received))

    def _receive_long(self, message: LongText) -> None:
        """Serve a long message, alone: nothing of this client's was served since, and no other's in this tick."""
        try:
            if not self._end_reason:
                self.session.receive(message.decode())
        except ProtocolFault as fault:
            self._fail(fault.goodbye, str(fault))
        self.go_on(Hold.LONG_MESSAGE)

    def _answer_close(self, received: Close) -> None:
        self.flush()
        answer = control_frame(CLOSE, b"" if received.code is None else received.code.to_bytes(2))
        self._end(f"closed by the client with {received.code or 'no code'}", answer if self._owes_close else b"")

    @property
    def _owes_close(self) -> bool:
        """True as long as the server has neither sent a close frame nor has a turn to send one."""
        return not self._end_reason or (self._farewell is not None and self._abort_timer is None)

    # What the session asks for (Replies)

    def hold(self, reason: Hold) -> None:
        if not self._end_reason:
            self._holds |= reason.value
            self._transport.pause_reading()

    def go_on(self, reason: Hold) -> None:
        """Serve what came meanwhile, unless there is another reason not to."""
        if self._holds == reason.value:
            self._seen = self._connections.now()
            if not self.subscriber.blocked:
                self._connections.defer(self._read_on)
        self._holds &= ~reason.value

    def identify(self, identity: Identity) -> None:
        self._claim()
        self._connections.reschedule(self)

    def part(self, goodbye: Goodbye) -> None:
        """Close behind what was answered; what is queued is given up."""
        if self._end_reason:
            return
        self.flush()
        self.subscriber.clear(Loss.DISCONNECTED)
        self._begin_end(f"closed with {goodbye.code}: {goodbye.reason}")
        self._say(goodbye)

    def _read_on(self) -> None:
        """Read again, if the client takes what it is sent, and serve what has come."""
        if self._reader is None or self._transport.is_closing():
            return
        if self._end_reason or not (self.subscriber.blocked or self._holds):
            self._transport.resume_reading()
        self._serve(self._reader)

    # Frames out

    def reply(self, frame: bytes) -> None:
        """Send an answer with others of this tick (Replies)."""
        if self._replies is None:
            self._replies = []
            self._connections.defer(self.flush)
        self._replies.append(frame)
        self._reply_bytes += len(frame)
        if self._reply_bytes >= REPLY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the answers that wait (Replies)."""
        if self._replies is not None:
            replies, self._replies = self._replies, None
            self._reply_bytes = 0
            self._transport.write(b"".join(replies))

    def beat(self, frames: bytes) -> None:
        """Send the heartbeat; a client that takes nothing has enough to take already."""
        if not self.subscriber.blocked and not self._end_reason:
            self._transport.write(frames)

    def pause_writing(self) -> None:
        self.subscriber.block()
        self._connections.end_message(self)
        if not self._end_reason:
            self._transport.pause_reading()
        self._uptake = uptake(self._transport)._replace(at=self._connections.now())
        self._connections.blocked[self] = None

    def resume_writing(self) -> None:
        self._connections.blocked.pop(self, None)
        self.subscriber.unblock()
        if self.subscriber.overflowed and not self._end_reason:
            self.cut_slow_consumer()
        if self.subscriber.blocked:
            return
        if self._farewell is not None and self._owes_close:
            self._say(self._farewell)
        else:
            self._read_on()

    def last_life(self, now: float) -> float:
        """When a whole frame came last, or the client was seen to take data that it was behind with.

        Now, while the server is what it waits for: nothing that it sends is read meanwhile. The server may in turn wait
        for the client, to take what comes before the answer.
        """
        before, after = self._uptake, uptake(self._transport)
        at = now if before.behind and after.taken != before.taken else before.at
        self._uptake = after._replace(at=at) if after.behind or at else NOTHING_TAKEN  # that all at rest share
        return now if self._holds and not self.subscriber.awaited else max(self._seen, at)

    @property
    def is_behind(self) -> bool:
        """Whether the client has not taken all that it was sent or is to be sent."""
        return self.subscriber.lagging or uptake(self._transport).behind

    def is_stuck(self, now: float) -> bool:
        """Whether the queue is full and the client has taken nothing for ``WRITE_WAIT_SEC``, or may not be full.

        A replay or an answer that the client keeps waiting is as good as a full queue.
        """
        self.last_life(now)
        stalled = now - self._uptake.at >= self._connections.limits.write_wait
        return (stalled and (self.subscriber.full or self.subscriber.awaited)) or self.subscriber.overflowed

    # The end

    def dismiss(self, reconnect_after_ms: int) -> None:
        """Shutdown: say when to come back, send what is queued, then close with 1001."""
        if self._end_reason:
            return
        self.flush()
        draining = Info(msg="draining", reconnect_after_ms=reconnect_after_ms, ts=self._connections.clock.timestamp())
        self._transport.write(text_frame(encode(draining)))
        self._begin_end("the server is shutting down")
        self._farewell = Goodbye.GOING_AWAY
        if not self.subscriber.lagging:
            self._say(self._farewell)
        else:
            self._connections.defer(self._read_on)  # the client's Close ends it before all that is queued was sent

    def cut_slow_consumer(self) -> None:
        """SLOW_CONSUMER: the queue is given up, and the client is gone within a second."""
        log.warning("Slow consumer detected: client_id=%(client_id)s", {"client_id": self.session.client_id})
        self.subscriber.clear(Loss.SLOW_CONSUMER)
        self._begin_end("slow consumer")
        error = error_reply(SlowConsumer(), UNSET, self._connections.clock.timestamp())
        self._transport.write(text_frame(encode(error)))
        self._say(Goodbye.SLOW_CONSUMER)

    @property
    def age(self) -> float:
        """Seconds since the handshake."""
        return self._connections.now() - self._opened

    def disconnect(self) -> None:
        """An operator wants this client gone."""
        self.part(Goodbye.DISCONNECTED)

    def traffic(self) -> Traffic:
        return traffic(self._transport)

    def time_out_message(self) -> None:
        """A message that has begun is not whole in time."""
        self._fail(Goodbye.MESSAGE_TIMEOUT, "a message was not complete in time")

    def abort(self, reason: str) -> None:
        """End at once; what the client has not taken is lost."""
        self._begin_end(reason)
        self._transport.abort()

    def _fail(self, goodbye: Goodbye, detail: str) -> None:
        """The client broke the protocol: nothing that it sends from here on means anything.

        But its Close does, where frames can still be told apart: then both have said it, and need not wait.
        """
        if goodbye in (Goodbye.PROTOCOL_ERROR, Goodbye.TOO_BIG):
            self._reader = None
        if self._end_reason:
            if goodbye is Goodbye.INVALID_TEXT:
                self._connections.defer(self._read_on)  # another fragment of the same text; a Close may follow it
            return
        log.error(
            "WebSocket error for client %(client_id)s: %(error)s",
            {"client_id": self.session.client_id, "error": detail},
        )
        self.flush()
        self.subscriber.clear(Loss.DISCONNECTED)
        self._begin_end(f"closed with {goodbye.code}: {detail}")
        self._say(goodbye)

    def _say(self, goodbye: Goodbye) -> None:
        """Send a close frame, then wait for the client's, but not for long. No topic may write behind it."""
        self._abort_later()
        if self._transport.is_closing():
            return
        if self.subscriber.subscription_count:
            self._connections.take_turn(partial(self._say, goodbye))
            return
        self._transport.write(close_frame(goodbye))
        self._transport.resume_reading()
        self._connections.defer(self._read_on)  # the client's Close may be among what was received and not served

    def _end(self, reason: str, answer: bytes = b"") -> None:
        """Close the transport: both sides have said their goodbye, the server's is ``answer``; or one is gone."""
        self._reader = None
        self._begin_end(reason)
        self._abort_later()
        self._close(answer)

    def _close(self, answer: bytes) -> None:
        """Close the transport once: asyncio's for TLS can't even be aborted when it was closed twice."""
        if self._transport.is_closing():
            return
        if self.subscriber.subscription_count:
            self._connections.take_turn(partial(self._close, answer))
            return
        if answer:
            self._transport.write(answer)
        self._transport.close()

    def _begin_end(self, reason: str) -> None:
        self._end_reason = self._end_reason or reason
        self._holds = 0
        self._connections.end_message(self)
        self.session.end()

    def _abort_later(self) -> None:
        """``close()`` alone would wait for ever for a client that does not read."""
        if self._abort_timer is None:
            self._abort_timer = self._connections.call_later(CLOSE_WAIT, self._abort_in_the_end)

    def _abort_in_the_end(self) -> None:
        """Who still has something to take of what comes before a farewell has the time that the shutdown gives."""
        self._abort_timer = None
        if self._farewell is not None and self.is_behind:
            self._abort_later()
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._begin_end("connection reset" if exc else "connection lost")
        self._replies = None
        self.subscriber.clear(Loss.DISCONNECTED)
        if self._claimed is not None:
            self._connections.quotas.release(self._claimed)
        self._connections.remove(self)
        log.info(
            "Client disconnected: %(client_id)s (%(reason)s; connected %(connected_sec).1f s, dropped %(dropped)d)",
            {
                "client_id": self.session.client_id,
                "reason": self._end_reason,
                "connected_sec": self.age,
                "dropped": self.subscriber.dropped,
            },
        )
