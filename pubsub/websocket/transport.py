"""The outgoing side of one client's connection: answers, progress, time limits and the end.

It decides nothing about topics, and reads nothing: its subclass Connection does.
"""

from __future__ import annotations

import asyncio
import logging
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss
from pubsub.protocol.errors import CloseReason, SlowConsumer
from pubsub.protocol.frames import PING, close_frame, control_frame, text_frame
from pubsub.protocol.replies import Info, encode, error_reply
from pubsub.system.tcp_info import Traffic, Uptake, traffic, uptake
from pubsub.websocket.ending import End, Ending
from pubsub.websocket.replies import PauseReason

if TYPE_CHECKING:
    from pubsub.websocket.services import Services

log = logging.getLogger(__name__)

# High and low watermark of the transport's own buffer: above the first the client is blocked, below the second it is
# written to again. Large enough for a burst on a long line, small enough for many stalled clients.
WRITE_BUFFER_HIGH: Final = 256 * 1024
WRITE_BUFFER_LOW: Final = 64 * 1024
REPLY_BYTES: Final = 64 * 1024  # answers are written at the end of the tick, or when they have so many bytes
CLOSE_WAIT: Final = 0.9  # seconds from the server's close frame to the end, whatever the client does

NOTHING_TAKEN: Final = Uptake(0, behind=False)  # all idle connections share it


@lru_cache(maxsize=1)
def heartbeat_frames(ts: str) -> bytes:
    """A ping frame, and an info ``ping`` for clients that do not see ping frames."""
    return control_frame(PING) + text_frame(encode(Info(msg="ping", ts=ts)))


class ClientTransport(asyncio.Protocol):
    """See the module. It is a Peer. :meth:`open` takes over a transport whose handshake is done."""

    __slots__ = ("_claimed", "_end", "_opened", "_pauses", "_replies", "_reply_bytes", "_seen", "_services",
                 "_transport", "_uptake", "next_ping", "number", "session", "slot", "subscriber")  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        services: Services,
        *,
        client_id: str,
        named: bool,
        identity: Identity | None = None,
    ) -> None:
        self._transport = transport
        self._services = services
        self._replies: list[bytes] | None = None  # answers of this tick
        self._reply_bytes = 0
        self._end: End | None = None  # None until it begins
        self.subscriber = Subscriber(transport.write, services.outbox_options)
        self.session = services.new_session(self.subscriber, self, client_id, named, identity)
        self._seen = self._opened = services.now()
        self._uptake = NOTHING_TAKEN
        self._pauses = 0  # the reasons for which the session waits, one bit of PauseReason each
        self._claimed: str | None = None  # the client whose quota counts this connection
        self.next_ping = 0.0
        self.number = 0
        self.slot = 0
        if named and not self.session.lacks_identity:
            self._claim()

    def _claim(self) -> None:
        if self._claimed is None:
            self._claimed = self.session.client_id
            self._services.quotas.claim(self._claimed)

    def open(self) -> None:
        """Take the transport over."""
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH, low=WRITE_BUFFER_LOW)
        self._transport.set_protocol(self)
        self._services.connections.add(self)
        log.info("Client connected: %(client_id)s", {"client_id": self.session.client_id})

    def _read_on(self) -> None:
        """Read again, and serve what has come."""
        raise NotImplementedError

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

    def identify(self, identity: Identity) -> None:
        self._claim()
        self._services.timers.reschedule(self)

    def send_heartbeat(self, ts: str) -> None:
        """Ping the client, unless it is blocked: then it has enough to take."""
        if not self.subscriber.blocked and self._end is None:
            self._transport.write(heartbeat_frames(ts))

    def reply(self, text: bytes) -> None:
        """Send the text of an answer with others of this tick (Replies)."""
        self._reply_frame(text_frame(text))

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
            self._reply_bytes = 0
            self._transport.write(b"".join(replies))

    # Progress

    def last_activity(self, now: float) -> float:
        """The moment of the last whole frame, or of the last progress in taking data.

        It is ``now`` while the server pauses the client, because frames are not read meanwhile; but not while an answer
        waits for the client to take its queue.
        """
        before, after = self._uptake, uptake(self._transport)
        at = now if before.behind and after.taken > before.taken else before.at
        self._uptake = after._replace(at=at) if after.behind or at else NOTHING_TAKEN
        return now if self._pauses and not self.subscriber.awaited else max(self._seen, at)

    @property
    def is_behind(self) -> bool:
        """True if the client has not taken all that was sent or is queued."""
        return self.subscriber.lagging or uptake(self._transport).behind

    def is_slow_consumer(self, now: float) -> bool:
        """True if the queue is full and the client has taken nothing for ``WRITE_WAIT_SEC``.

        A replay or an answer that waits for the client counts as a full queue. With the policy ``disconnect`` there is
        no time limit.
        """
        self.last_activity(now)
        stalled = now - self._uptake.at >= self._services.limits.write_wait
        return (stalled and (self.subscriber.full or self.subscriber.awaited)) or self.subscriber.overflowed

    # The end

    def close(self, reason: CloseReason) -> None:
        """Close after all answers; the queue is lost."""
        if self._end is not None:
            return
        self.flush()
        self.subscriber.clear(Loss.DISCONNECTED)
        self._begin_end(Ending(reason), f"closed with {reason.code}: {reason.reason}")
        self._send_close(reason)

    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        """Say when to reconnect, send what is queued, then close with 1001."""
        if self._end is not None:
            return
        self.flush()
        draining = Info(msg="draining", reconnect_after_ms=reconnect_after_ms, ts=self._services.clock.timestamp())
        self._transport.write(text_frame(encode(draining)))
        end = self._begin_end(Ending.GOING_AWAY, "the server is shutting down")
        end.due = CloseReason.GOING_AWAY
        if not self.subscriber.lagging:
            self._send_close(end.due)
        else:
            self._services.defer(self._read_on)  # its Close ends the connection before the queue is sent

    def close_slow_consumer(self) -> None:
        """Drop the queue, and close within a second."""
        log.warning("Slow consumer detected: client_id=%(client_id)s", {"client_id": self.session.client_id})
        self.subscriber.clear(Loss.SLOW_CONSUMER)
        self._begin_end(Ending.SLOW_CONSUMER, "slow consumer")
        error = error_reply(SlowConsumer(), UNSET, self._services.clock.timestamp())
        self._transport.write(text_frame(encode(error)))
        self._send_close(CloseReason.SLOW_CONSUMER)

    @property
    def age(self) -> float:
        """Seconds since the handshake."""
        return self._services.now() - self._opened

    def disconnect(self) -> None:
        """Close for an operator."""
        self.close(CloseReason.DISCONNECTED)

    def traffic(self) -> Traffic:
        return traffic(self._transport)

    def time_out_message(self) -> None:
        """Close: a message was not complete in time."""
        self._fail(CloseReason.MESSAGE_TIMEOUT, "a message was not complete in time")

    @property
    def client_id(self) -> str:
        return self.session.client_id

    @property
    def deadline(self) -> float:
        """The moment at which the client's token expires, or must be there.

        It is computed, because an attribute would cost 40 bytes for each connection.
        """
        session = self.session
        if session.identity is not None:
            return session.identity.expires
        return self._opened + self._services.limits.auth_wait if session.lacks_identity else inf

    def expire(self) -> None:
        self.session.expire()

    def abort(self, kind: Ending, text: str) -> None:
        """End at once; data that the client has not taken is lost."""
        self._begin_end(kind, text)
        self._transport.abort()

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

    def _close_transport(self, answer: bytes) -> None:
        """Close the transport once: asyncio's TLS transport cannot be aborted after a second close."""
        if self._transport.is_closing():
            return
        if self.subscriber.is_member:
            self._services.take_turn(partial(self._close_transport, answer))
            return
        if answer:
            self._transport.write(answer)
        self._transport.close()

    def _begin_end(self, kind: Ending, text: str) -> End:
        """Stop to serve the client. A second call does not change the first end."""
        if self._end is None:
            self._end = End(kind, text)
        self._pauses = 0
        self._services.timers.end_message(self)
        self.session.end()
        return self._end

    def _abort_later(self) -> None:
        """Abort after CLOSE_WAIT: ``close()`` alone would wait for ever for a client that does not read."""
        assert self._end is not None, "the end has begun"
        if self._end.timer is None:
            self._end.timer = self._services.call_later(CLOSE_WAIT, self._abort_in_the_end)

    def _abort_in_the_end(self) -> None:
        """Abort, unless the client is still taking its queue at a shutdown: that has a time limit of its own."""
        assert self._end is not None, "the end has begun"
        self._end.timer = None
        if self._end.due is not None and self.is_behind:
            self._abort_later()
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        end = self._begin_end(*((Ending.RESET, "connection reset") if exc else (Ending.LOST, "connection lost")))
        if end.timer is not None:
            end.timer.cancel()
        self._replies = None
        self.subscriber.clear(Loss.DISCONNECTED)
        if self._claimed is not None:
            self._services.quotas.release(self._claimed)
        self._services.connections.remove(self)
        log.info(
            "Client disconnected: %(client_id)s (%(reason)s; connected %(connected_sec).1f s, dropped %(dropped)d)",
            {
                "client_id": self.session.client_id,
                "reason": end.text,
                "connected_sec": self.age,
                "dropped": self.subscriber.dropped,
            },
        )
