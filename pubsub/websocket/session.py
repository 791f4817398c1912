"""The session of one client: it decodes a request, checks rights, calls the Broker and answers. No I/O.

No message of a client makes :meth:`Session.receive` raise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET, UnsetType

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import allows
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.history import KeptEvents
from pubsub.core.joining import Joining
from pubsub.core.subscription import Asked
from pubsub.protocol.errors import BadRequest, Failure, Forbidden, Internal, TopicNotFound, Unauthorized
from pubsub.protocol.mistakes import request_id_of
from pubsub.protocol.replies import Ack, Pong, Reply, encode, error_reply
from pubsub.protocol.requests import (
    AnyRequest,
    Auth,
    History,
    Ping,
    Presence,
    Publish,
    Subscribe,
    Unsubscribe,
    decode_publishes,
    decode_request,  # fmt: skip
)
from pubsub.websocket.acknowledgements import acknowledge_subscribe, answer_history, answer_presence
from pubsub.websocket.publisher import SessionPublisher
from pubsub.websocket.replies import NoReplies, PauseReason, Replies
from pubsub.websocket.rules import NO_RULES, ClientRules

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber

log = logging.getLogger(__name__)

Found = TypeVar("Found")

_NO_REPLIES = NoReplies()


class Session(SessionPublisher):
    """See the module. ``named``: ``client_id`` came from the client's URL or token, and does not change.

    ``identity``: the client's rights, once they are known.
    """

    __slots__ = ("_drawn", "_named", "_rules", "_subscriber", "identity")

    def __init__(
        self,
        broker: Broker,
        subscriber: Subscriber,
        replies: Replies,
        clock: Clock,
        *,
        client_id: str,
        named: bool,
        rules: ClientRules = NO_RULES,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(broker, replies, clock)
        self._subscriber = subscriber
        self._named = named
        self._rules = rules
        self._drawn = 0  # later requests that are counted already
        self.client_id = client_id
        self.identity = identity

    @property
    def client_id(self) -> str:
        return self._subscriber.client_id

    @client_id.setter
    def client_id(self, client_id: str) -> None:
        self._subscriber.client_id = client_id

    @property
    def lacks_identity(self) -> bool:
        """True if the client must send a token first."""
        return self.identity is None and self._rules.identify is not None

    def receive_publishes(self, texts: Sequence[str]) -> int:
        """Publish the messages of the first texts, as long as they are valid, allowed and for topics that exist.

        Returns their number. The next text, if there is one, is for :meth:`receive`, which serves everything.
        """
        if self.lacks_identity:
            return 0
        has_rate = self._rules.rates is not None
        requests = decode_publishes(texts[: self._drawn] if has_rate else texts)
        served = 0
        while served < len(requests):
            count = self.publish_run(requests[served:] if served else requests)
            if not count:
                break
            served += count
        if has_rate:
            self._drawn -= served
        return served

    def receive(self, text: str) -> bool:
        """Serve one text message. Returns True if it was expensive: everything but an accepted publish."""
        request: AnyRequest | None = None
        try:
            rules = self._rules
            if rules.asks:  # here, because a call for each request would cost 0.05 µs
                if self.identity is None and rules.identify is not None:
                    # It has no rate yet: otherwise it could use up the rate of another client.
                    request = self._first_message(text)
                    self._serve(request)
                    return True
                if self._drawn:
                    self._drawn -= 1
                elif rules.rates is not None:
                    self._drawn = rules.rates.draw(self.client_id)
            request = decode_request(text)
            if type(request) is Publish:  # here, because a call of _serve costs 0.15 µs
                identity = self.identity
                if identity is not None and not allows(identity.publishes, request.topic):
                    identity.refuse_publish(request.topic)
                self._broker.publish([request], self)
                return False
            self._serve(request)
        except TopicNotFound as failure:
            assert request is not None, "no other step looks for a topic"
            if self._broker.shares_topics:
                self._replies.pause(PauseReason.SYNC)
                self._broker.sync(partial(self._serve_again, request))
            else:
                self._refuse(failure, request.request_id)
        except Failure as failure:
            self._refuse(failure, request_id_of(text) if request is None else request.request_id)
        except Exception:
            log.exception("Internal error at a request of client %(client_id)s", {"client_id": self.client_id})
            self._refuse(Internal(), request_id_of(text) if request is None else request.request_id)
        return True

    def _serve_again(self, request: AnyRequest, failure: Failure | None) -> None:
        """Serve a request for a topic that this server did not know, now that it knows all."""
        if self._replies is _NO_REPLIES:
            return
        try:
            if failure is not None:
                raise failure
            if isinstance(request, Publish):
                self._broker.publish([request], self)
            else:
                self._serve(request)
        except Failure as found:
            self._refuse(found, request.request_id)
        except Exception:
            log.exception("Internal error at a request of client %(client_id)s", {"client_id": self.client_id})
            self._refuse(Internal(), request.request_id)
        finally:
            self._replies.resume(PauseReason.SYNC)

    def receive_binary(self, payload: bytearray) -> None:
        """Refuse a binary message."""
        try:
            if self.lacks_identity:
                raise Unauthorized("expected an auth message first")
            if self._rules.rates is not None:
                self._rules.rates.count(self.client_id)
            raise BadRequest("binary frame: expected a text frame with a JSON object")
        except Failure as failure:
            self._refuse(failure, UNSET)

    def end(self) -> None:
        """End: the client is gone or is being closed. It gets no new event and no further answer."""
        self._broker.leave(self._subscriber)
        self._replies = _NO_REPLIES
        if self._drawn and self._rules.rates is not None:
            self._rules.rates.give_back(self.client_id, self._drawn)
        self._drawn = 0

    def expire(self) -> None:
        """Close: the token has expired, or did not come in time."""
        self._refuse(Unauthorized("token: missing" if self.identity is None else "token: expired"), UNSET)

    def revoke(self) -> None:
        """Close: the token, or its lack, is no longer accepted."""
        self._refuse(Unauthorized("token: missing" if self.identity is None else "token: no longer accepted"), UNSET)

    def _first_message(self, text: str) -> Auth:
        """Decode an auth message. Raises Unauthorized for any other: the first message has no second try."""
        try:
            request = decode_request(text)
        except BadRequest as failure:
            raise Unauthorized(f"expected an auth message first: {failure}") from None
        if type(request) is not Auth:
            raise Unauthorized("expected an auth message first")
        return request

    def _serve(self, request: Subscribe | Unsubscribe | History | Ping | Auth | Presence) -> None:
        """Serve a request. Rights are checked first; those of a publish in :meth:`receive`."""
        match request:
            case Subscribe():
                self._subscribe(request)
            case Unsubscribe():
                self._unsubscribe(request)
            case History():
                self._history(request)
            case Ping():
                self._answer(Pong(request_id=request.request_id, ts=self._clock.timestamp()))
            case Auth():
                self._authenticate(request)
            case Presence():
                self._presence(request)

    def _wait_for(
        self,
        ask: Callable[[Callable[[Found | Failure], None]], None],
        then: Callable[[Found], None],
        request_id: str | UnsetType,
    ) -> None:
        """``ask`` for something that may come later, and serve no other message before ``then`` is done.

        The answer waits until the client has taken its queue: otherwise it could come before older events. The last of
        them are often delivered by what was asked for, and may fill the socket.
        """
        paused = finished = False

        def answer(found: Found | Failure) -> None:
            nonlocal finished
            if paused or self._subscriber.lagging:
                self._subscriber.call_when_ready(lambda: self._end_wait(found, then, request_id))
            else:
                finished = True
                self._finish(found, then)

        ask(answer)
        if not finished:
            paused = True
            self._replies.pause(PauseReason.ANSWER)

    def _finish(self, found: Found | Failure, then: Callable[[Found], None]) -> None:
        if isinstance(found, Failure):
            raise found
        then(found)

    def _end_wait(self, found: Found | Failure, then: Callable[[Found], None], request_id: str | UnsetType) -> None:
        if self._replies is _NO_REPLIES:
            return
        try:
            self._finish(found, then)
        except Failure as failure:
            self._refuse(failure, request_id)
        except Exception:
            log.exception("Internal error at a request of client %(client_id)s", {"client_id": self.client_id})
            self._refuse(Internal(), request_id)
        finally:
            self._replies.resume(PauseReason.ANSWER)

    def _authenticate(self, request: Auth) -> None:
        """Verify the client's token."""
        identify = self._rules.identify
        if identify is None:
            raise BadRequest("auth: this server asks for no token")
        self._wait_for(
            lambda answer: identify(request.token, answer),
            partial(self._end_authentication, request),
            request.request_id,
        )

    def _end_authentication(self, request: Auth, identity: Identity) -> None:
        before = self.identity
        self._take_identity(identity)
        self._answer(Ack(request_id=request.request_id, status="ok", ts=self._clock.timestamp()))
        self._replies.flush()  # the ack comes first
        if before is None or before.subscribes != identity.subscribes or before.filters != identity.filters:
            self._broker.review(self._subscriber, self)

    def _take_identity(self, identity: Identity) -> None:
        """Raises Forbidden for another client's token, LimitExceeded if the client has all its connections."""
        if self._named and identity.client_id != self.client_id:
            raise Forbidden("token: sub: expected the client_id of this connection")
        if self.identity is None:
            self._rules.quotas.check_claim(identity.client_id)
        self._named = True
        self.client_id = identity.client_id
        self.identity = identity
        self._replies.identify(identity)

    def _check_name(self, request: Subscribe | Unsubscribe) -> None:
        """Check the client's name and its right to the topic. Raises Forbidden, BadRequest."""
        if self.identity is not None:
            self.identity.require_client_id(request.client_id)
        self.require_subscribe(request.topic)

    def _subscribe(self, request: Subscribe) -> None:
        self._check_name(request)
        self._rules.check_room(self._subscriber, request.topic)
        subscription = self.read_subscription(request.topic, request.filter, request.params)
        self._take_name(request.client_id)
        asked = Asked(subscription, self, request.last_n, None if request.resume is UNSET else request.resume)
        self._wait_for(
            lambda answer: self._broker.subscribe(asked, self._subscriber, answer),
            partial(self._begin_subscription, request),
            request.request_id,
        )

    def _begin_subscription(self, request: Subscribe, joining: Joining) -> None:
        joining.confirm()
        self._answer(acknowledge_subscribe(request, joining, self._clock.timestamp()))
        self._replies.flush()  # the ack comes before the replay
        joining.advance()
        log.info(
            "Client %(client_id)s subscribed to topic %(topic)s", {"client_id": self.client_id, "topic": request.topic}
        )

    def _unsubscribe(self, request: Unsubscribe) -> None:
        self._check_name(request)
        self._take_name(request.client_id)
        self._wait_for(
            lambda answer: self._broker.unsubscribe(request.topic, self._subscriber, lambda: answer(request)),
            self._end_subscription,
            request.request_id,
        )

    def _end_subscription(self, request: Unsubscribe) -> None:
        self._answer(Ack(request_id=request.request_id, topic=request.topic, status="ok", ts=self._clock.timestamp()))
        log.info(
            "Client %(client_id)s unsubscribed from topic %(topic)s",
            {"client_id": self.client_id, "topic": request.topic},
        )

    def _history(self, request: History) -> None:
        if self.identity is not None:
            self.identity.require_subscribe(request.topic)
        matcher = self.join_filters(request.topic, self.read_filter(request.filter, request.params))
        if isinstance(request.after, int):
            ask = partial(self._broker.history_after, request.topic, request.after, request.limit, matcher=matcher)
        else:
            assert isinstance(request.last_n, int), "decode_request lets none pass without after or last_n"
            count = min(request.last_n, request.limit)
            ask = partial(self._broker.history_last, request.topic, count, matcher=matcher)
        self._wait_for(ask, partial(self._end_history, request), request.request_id)

    def _end_history(self, request: History, kept: KeptEvents) -> None:
        self._answer(answer_history(request, kept, self._clock.timestamp()))

    def _presence(self, request: Presence) -> None:
        if self.identity is not None:
            self.identity.require_subscribe(request.topic)
        self._answer(answer_presence(request, self._broker.presence(request.topic), self._clock.timestamp()))
        self._replies.flush()  # before infos of later changes

    def _take_name(self, client_id: str) -> None:
        """Take the first ``client_id`` that the client sends, if its URL had none."""
        if not self._named:
            self._named = True
            self.client_id = client_id

    def _answer(self, reply: Reply) -> None:
        self._replies.reply(encode(reply))

    def _refuse(self, failure: Failure, request_id: str | UnsetType) -> None:
        self._answer(error_reply(failure, request_id, self._clock.timestamp()))
        if failure.close_reason is not None:
            self._replies.close(failure.close_reason)
