"""What one client asks for, and may: decodes a request, calls the Broker, answers. No I/O.

Nothing that a client sends raises out of :meth:`Session.receive`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from msgspec import UNSET, Raw, UnsetType

from pubsub.broker import Broker
from pubsub.clock import Clock
from pubsub.errors import BadRequest, Failure, Internal
from pubsub.frames import frame_payload, text_frame
from pubsub.protocol import (
    MAX_HISTORY_LIMIT,
    Ack,
    AnyRequest,
    Event,
    History,
    HistoryReply,
    Ping,
    Pong,
    Publish,
    Reply,
    Subscribe,
    Unsubscribe,
    decode_request,
    encode,
    error_reply,
    request_id_of,
)

if TYPE_CHECKING:
    from pubsub.outbox import Outbox

log = logging.getLogger(__name__)


class Replies(Protocol):
    """Where answers go: in order, never dropped, written together at the end of the tick or at :meth:`flush`."""

    def reply(self, frame: bytes) -> None: ...

    def flush(self) -> None: ...


class _NoReplies:
    """Takes the answers to a client that is gone."""

    def reply(self, frame: bytes) -> None:
        pass

    def flush(self) -> None:
        pass


_NO_REPLIES = _NoReplies()


class Session:
    """One connection's dealings with the Broker. ``named``: whether ``client_id`` came from the client's URL."""

    __slots__ = ("_broker", "_clock", "_named", "_outbox", "_replies", "client_id")

    def __init__(
        self, broker: Broker, outbox: Outbox, replies: Replies, clock: Clock, *, client_id: str, named: bool
    ) -> None:
        self._broker = broker
        self._outbox = outbox
        self._replies: Replies = replies
        self._clock = clock
        self._named = named
        self.client_id = client_id

    def receive(self, text: str) -> None:
        """Serve one text message."""
        try:
            self._serve(decode_request(text))
        except Failure as failure:
            self._refuse(failure, request_id_of(text))
        except Exception:
            log.exception("Internal error at a request of client %(client_id)s", {"client_id": self.client_id})
            self._refuse(Internal(), request_id_of(text))

    def receive_binary(self) -> None:
        """Refuse a binary message."""
        self._refuse(BadRequest("binary frame: expected a text frame with a JSON object"), UNSET)

    def published(self, request: Publish, event: Event) -> None:
        """A message of this client is in its topic (Publisher)."""
        ack = Ack(request_id=request.request_id, topic=event.topic, status="ok", seq=event.seq, ts=event.ts)
        self._replies.reply(text_frame(encode(ack)))

    def end(self) -> None:
        """The client is gone, or about to be sent away: it gets no new event and no further answer."""
        self._broker.leave(self._outbox)
        self._replies = _NO_REPLIES

    def _serve(self, request: AnyRequest) -> None:
        match request:
            case Publish():
                self._broker.publish(request, self)
            case Subscribe():
                self._subscribe(request)
            case Unsubscribe():
                self._unsubscribe(request)
            case History():
                self._history(request)
            case Ping():
                self._answer(Pong(request_id=request.request_id, ts=self._clock.timestamp()))

    def _subscribe(self, request: Subscribe) -> None:
        self._take_name(request.client_id)
        topic = self._broker.subscribe(request.topic, self._outbox)
        self._answer(
            Ack(
                request_id=request.request_id,
                topic=topic.name,
                status="ok",
                epoch=topic.epoch,
                seq=topic.seq,
                ts=self._clock.timestamp(),
            )
        )
        self._replies.flush()  # the ack comes before the replay
        self._outbox.replay(self._broker.replay(topic, request.last_n))
        log.info(
            "Client %(client_id)s subscribed to topic %(topic)s", {"client_id": self.client_id, "topic": topic.name}
        )

    def _unsubscribe(self, request: Unsubscribe) -> None:
        self._take_name(request.client_id)
        topic = self._broker.unsubscribe(request.topic, self._outbox)
        self._answer(Ack(request_id=request.request_id, topic=topic.name, status="ok", ts=self._clock.timestamp()))
        log.info(
            "Client %(client_id)s unsubscribed from topic %(topic)s", {"client_id": self.client_id, "topic": topic.name}
        )

    def _history(self, request: History) -> None:
        if isinstance(request.after, int):
            kept = self._broker.history_after(request.topic, request.after, request.limit)
        else:
            assert isinstance(request.last_n, int), "decode_request lets none pass without after or last_n"
            kept = self._broker.history_last(request.topic, min(request.last_n, request.limit, MAX_HISTORY_LIMIT))
        self._answer(
            HistoryReply(
                request_id=request.request_id,
                topic=request.topic,
                epoch=kept.epoch,
                messages=[Raw(frame_payload(event.frame)) for event in kept.events],
                complete=kept.complete,
                ts=self._clock.timestamp(),
            )
        )

    def _take_name(self, client_id: str) -> None:
        """A connection that did not name itself in the URL takes the first name that it sends."""
        if not self._named:
            self._named = True
            self.client_id = client_id

    def _answer(self, reply: Reply) -> None:
        self._replies.reply(text_frame(encode(reply)))

    def _refuse(self, failure: Failure, request_id: str | UnsetType) -> None:
        self._answer(error_reply(failure, request_id, self._clock.timestamp()))
