"""The half of a session that publishes: the outcomes of publishes become answers. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pubsub.auth.permissions import allows
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.filters.filters import Filters
from pubsub.protocol.errors import Failure, Internal
from pubsub.protocol.replies import PublishAck, encode, error_reply
from pubsub.protocol.requests import Publish
from pubsub.websocket.grants import IdentityGrant
from pubsub.websocket.outcomes import Outcomes
from pubsub.websocket.replies import PauseReason, Replies

log = logging.getLogger(__name__)


class SessionPublisher(IdentityGrant):
    """See the module (Publisher)."""

    __slots__ = ("_broker", "_clock", "_outcomes", "_replies")

    def __init__(self, broker: Broker, replies: Replies, clock: Clock) -> None:
        self._broker = broker
        self._replies: Replies = replies
        self._clock = clock
        self._outcomes: Outcomes | None = None  # made for the first publish that has to wait

    @property
    def client_id(self) -> str:
        raise NotImplementedError

    @property
    def filters(self) -> Filters:
        return self._broker.filters

    def publish_run(self, requests: Sequence[Publish]) -> int:
        """Publish the first requests, as many as have the same topic. Returns their number; 0 if it can't be."""
        topic, identity = requests[0].topic, self.identity
        if not self._broker.exists(topic) or not (identity is None or allows(identity.publishes, topic)):
            return 0
        count = 1
        while count < len(requests) and requests[count].topic == topic:
            count += 1
        run = requests if count == len(requests) else requests[:count]
        try:
            self._broker.publish(run, self)
        except Exception:
            log.exception("Internal error at a request of client %(client_id)s", {"client_id": self.client_id})
            for request in run:
                self.refused(request, Internal())
        return count

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        """Acknowledge publishes (Publisher)."""
        if self._broker.heeds_publishes:
            self._heed_publishes(requests, first)
        acks: list[bytes] = []
        seq = first
        for request in requests:
            acks.append(encode(PublishAck(request.request_id, request.topic, "ok", seq, ts)))
            seq += 1
        if self._outcomes is None:
            self._replies.reply_all(acks)
        else:
            for request, ack in zip(requests, acks, strict=True):
                self._outcomes.end(request, ack, self._replies)

    def _heed_publishes(self, requests: Sequence[Publish], first: int) -> None:
        for seq, request in enumerate(requests, first):
            log.debug(
                "Message published to topic %(topic)s: id=%(id)s",
                {"topic": request.topic, "id": request.message.id, "seq": seq},
            )
        if self._broker.filters_busy:
            self._replies.pause(PauseReason.FILTERS)
            self._broker.call_when_filtered(lambda: self._replies.resume(PauseReason.FILTERS))

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        ack = PublishAck(request.request_id, request.topic, "ok", seq, ts, duplicate=True)
        self._end_publish(request, encode(ack))

    def refused(self, request: Publish, failure: Failure) -> None:
        error = error_reply(failure, request.request_id, self._clock.timestamp())
        self._end_publish(request, encode(error))

    def _end_publish(self, request: Publish, text: bytes) -> None:
        if self._outcomes is None:
            self._replies.reply(text)
        else:
            self._outcomes.end(request, text, self._replies)

    def wait(self, requests: Sequence[Publish]) -> None:
        if self._outcomes is None:
            self._outcomes = Outcomes()
        for request in requests:
            self._outcomes.wait(request, self._replies)
        if self._broker.call_when_writable(self._resume_publishing):
            self._replies.pause(PauseReason.JOURNAL)

    def _resume_publishing(self) -> None:
        self._replies.resume(PauseReason.JOURNAL)
