"""The outgoing side of one WebSocket client: answers, heartbeats and close frames.

It decides nothing about topics, and reads nothing: its subclass Connection does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from pubsub.auth.identity import Identity
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss
from pubsub.protocol.deflate import Agreement
from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frames import PING, close_frame, control_frame, text_frame, text_frames
from pubsub.protocol.replies import Info, encode
from pubsub.websocket.ending import Ending
from pubsub.websocket.replies import PauseReason
from pubsub.websocket.transport import ClientTransport

if TYPE_CHECKING:
    from pubsub.websocket.services import Services

log = logging.getLogger(__name__)

REPLY_BYTES: Final = 64 * 1024  # answers are written at the end of the tick, or when they have so many bytes


PINGED: Final = -1  # in place of a round trip, from a ping to its pong
CLOCK_STEP: Final = 0.002  # seconds: uvloop's time is that of the beginning of the tick, in whole milliseconds


@lru_cache(maxsize=1)
def ping_info(ts: str) -> bytes:
    """An info ``ping`` for clients that do not see ping frames."""
    return text_frame(encode(Info(msg="ping", ts=ts)))


class FrameTransport(ClientTransport):
    """See the module. ``session`` serves the client's messages."""

    __slots__ = ("_pauses", "_replies", "_reply_bytes", "_round_trip", "session")

    transport_name: Final = "websocket"

    by_rest: ClassVar[bool] = False

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
        super().__init__(transport, services, Subscriber(transport, services.options_for(agreement)))
        self._replies: list[bytes] | None = None  # answers of this tick
        self._reply_bytes = 0
        self._pauses = 0  # the reasons for which the session waits, one bit of PauseReason each
        self._round_trip: int | None = None  # in milliseconds: Python shares the small numbers
        self.session = services.new_session(self.subscriber, self, client_id, named, identity)
        if named and not self.session.lacks_identity:
            self._claim()

    @property
    def client_id(self) -> str:
        return self.session.client_id

    @property
    def identity(self) -> Identity | None:
        return self.session.identity

    @property
    def deadline(self) -> float:
        """The moment at which the client's token expires, or must be there.

        It is computed, because an attribute would cost 40 bytes for each connection.
        """
        session = self.session
        if session.identity is not None:
            return session.identity.expires
        return self._opened + self._services.limits.auth_wait if session.lacks_identity else inf

    def _stop_reading(self) -> None:
        """Read no more frames: their borders are unknown, or the client has sent its last one."""
        raise NotImplementedError

    # The session's calls (Replies)

    def pause(self, reason: PauseReason) -> None:
        if self._end is None:
            self._pauses |= reason.value
            self._transport.pause_reading()

    def resume(self, reason: PauseReason) -> None:
        """Serve the frames that came meanwhile, unless there is another reason to pause."""
        if self._pauses == reason.value:
            self._seen = self._services.now()
            if not self.subscriber.blocked:
                self._services.defer(self._read_on)
        self._pauses &= ~reason.value

    def may_subscribe(self, topic: str) -> bool:
        return not self.session.lacks_identity and self.session.may_subscribe(topic)

    def identify(self, identity: Identity) -> None:
        self._claim()
        self._services.timers.reschedule(self)

    def send_heartbeat(self, ts: str) -> None:
        """Ping the client, unless it is blocked: then it has enough to take."""
        if not self.subscriber.blocked and self._end is None:
            frames = control_frame(PING, self._elapsed_us().to_bytes(8)) + ping_info(ts)
            self._services.meter.answered += len(frames)
            self._round_trip = PINGED
            self._transport.write(frames)

    def _elapsed_us(self) -> int:
        """Microseconds since the start. The payload of a ping is no more: the uptime of the machine is a secret."""
        return int(1e6 * (self._services.clock.monotonic() - self._services.started))

    def _take_pong(self, payload: bytes) -> None:
        """Measure the round trip of the last ping, once. A client can claim no moment before that ping was due."""
        if self._round_trip != PINGED or len(payload) != 8:
            return
        taken = (self._elapsed_us() - int.from_bytes(payload)) / 1e6
        due = self.next_ping - self._services.limits.ping_period
        if 0 <= taken <= self._services.now() - due + CLOCK_STEP:
            self._services.meter.round_trips.observe(taken)
            self._round_trip = round(1000 * taken)

    @property
    def round_trip(self) -> int | None:
        return None if self._round_trip == PINGED else self._round_trip

    def reply(self, text: bytes) -> None:
        """Send the text of an answer with others of this tick (Replies)."""
        self._reply_frame(text_frame(text))

    def reply_all(self, texts: Sequence[bytes]) -> None:
        """Send the texts of several answers likewise (Replies)."""
        self._reply_frame(text_frames(texts) if len(texts) > 1 else text_frame(texts[0]))

    def _reply_frame(self, frame: bytes) -> None:
        if self._replies is None:
            self._replies = []
            self._services.defer(self.flush)
        self._replies.append(frame)
        self._reply_bytes += len(frame)
        if self._reply_bytes >= REPLY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the answers that wait (Replies)."""
        if self._replies is not None:
            replies, self._replies = self._replies, None
            self._services.meter.answered += self._reply_bytes
            self._reply_bytes = 0
            self._transport.write(b"".join(replies))

    # Progress

    def pause_writing(self) -> None:
        super().pause_writing()
        self._services.timers.end_message(self)
        if self._end is None:
            self._transport.pause_reading()

    def last_activity(self, now: float) -> float:
        """The moment of the last whole frame, or of the last progress in taking data.

        It is ``now`` while the server pauses the client, because frames are not read meanwhile; but not while an answer
        waits for the client to take its queue.
        """
        at = self._last_progress(now)
        return now if self._pauses and not self.subscriber.awaited else max(self._seen, at)

    # The end

    def close(self, reason: CloseReason) -> None:
        """Close after all answers; the queue is lost."""
        if self._end is None:
            self.flush()
            super().close(reason)

    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        """Say when to reconnect, send what is queued, then close with 1001."""
        if self._end is not None:
            return
        self.flush()
        draining = Info(msg="draining", reconnect_after_ms=reconnect_after_ms, ts=self._services.clock.timestamp())
        self._transport.write(text_frame(encode(draining)))
        self._close_after_queue(Ending.GOING_AWAY, CloseReason.GOING_AWAY, "the server is shutting down")
        if self.subscriber.lagging:
            self._services.defer(self._read_on)  # its Close ends the connection before the queue is sent

    def expire(self) -> None:
        self.session.expire()

    def revoke(self) -> None:
        self.session.revoke()

    def time_out_message(self) -> None:
        """Close: a message was not complete in time."""
        self._fail(CloseReason.MESSAGE_TIMEOUT, "a message was not complete in time")

    def _fail(self, reason: CloseReason, detail: str) -> None:
        """Close: the client broke the protocol, and its later frames are ignored.

        Only its Close counts, if the borders of frames are known: then both sides have closed and need not wait.
        """
        if reason in (CloseReason.PROTOCOL_ERROR, CloseReason.TOO_BIG):
            self._stop_reading()
        if self._end is not None:
            if reason is CloseReason.INVALID_TEXT:
                self._services.defer(self._read_on)  # a later fragment of the same text; a Close may follow
            return
        log.error(
            "WebSocket error for client %(client_id)s: %(error)s",
            {"client_id": self.session.client_id, "error": detail},
        )
        self.flush()
        self.subscriber.clear(Loss.DISCONNECTED)
        self._begin_end(Ending(reason), f"closed with {reason.code}: {detail}")
        self._send_close(reason)

    def _send_close(self, reason: CloseReason) -> None:
        """Send a close frame, then wait shortly for the client's. No topic may write after it."""
        self._abort_later()
        if self._transport.is_closing():
            return
        if self.subscriber.is_member:
            self._services.take_turn(partial(self._send_close, reason))
            return
        self._transport.write(close_frame(reason))
        self._transport.resume_reading()
        self._services.defer(self._read_on)  # the client's Close may be among the frames that were not served

    def _finish(self, kind: Ending, text: str, answer: bytes = b"") -> None:
        """Close the transport: nothing more comes from the client. ``answer``: the close frame, if it is due."""
        owes_close = self._end is None or self._end.owes_close
        self._stop_reading()
        self._begin_end(kind, text)
        self._abort_later()
        self._close_transport(answer if owes_close else b"")

    def _leave(self) -> None:
        self._pauses = 0
        self._services.timers.end_message(self)
        self.session.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._replies = None
