"""The conversation of a client with a server, over all its connections: every rule of the client. No I/O.

A Host gives it a way to send, a clock, timers and chance, and tells it what happens: :meth:`opened`, :meth:`received`,
:meth:`closed`. It must never wait, and nothing that a server sends makes it raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pubsub.client.errors import Disconnected, PubsubError, ServerFault, Unreachable
from pubsub.client.exchange import Answer, Exchange, Question
from pubsub.client.heartbeat import Heartbeat
from pubsub.client.host import Host
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Wish
from pubsub.client.outcomes import Published
from pubsub.client.pacing import Pacing
from pubsub.client.publishes import OwnIds, Publishes
from pubsub.client.reconnects import Reconnects, Retry
from pubsub.client.replies import UNDECODABLE, Event, Info, Known, decode_known, request_id_of
from pubsub.client.requests import Auth, Publish, Request
from pubsub.client.subscriptions import Subscriptions
from pubsub.protocol.errors import CloseReason

__all__ = ["Conversation"]

CLOSED_BY_USER: Final = 1000


class Conversation:
    """See the module.

    ``answer_timeout`` and ``heartbeat`` are seconds. ``renewable``: each connection may have another token. ``own_ids``
    and ``pacing`` are shared by all conversations of one client.
    """

    def __init__(
        self,
        host: Host,
        *,
        answer_timeout: float,
        heartbeat: float,
        own_ids: OwnIds,
        pacing: Pacing,
        renewable: bool = False,
    ) -> None:
        self._host = host
        self._exchange = Exchange(host, answer_timeout, pacing)
        self._publishes = Publishes(self._exchange, own_ids)
        self._subscriptions = Subscriptions(host, self._exchange)
        self._reconnects = Reconnects(host, renewable=renewable)
        self._heartbeat = Heartbeat(host, heartbeat, lambda: self.paused)
        self._feeds = self._subscriptions.feeds
        self._reported = False
        self.full = self._subscriptions.full
        """The subscriptions whose users do not keep up. As long as there is none, reading is not ``paused``."""

    @property
    def paused(self) -> bool:
        """True if nothing more is to be read: a user does not keep up, and nothing else is awaited."""
        return self._subscriptions.paused and not self._exchange.awaited

    # --- What happens to the connection

    def opened(self, client_id: str) -> None:
        """A connection is open, for a client of this name."""
        self._reported = False
        self._reconnects.opened()
        self._heartbeat.start()
        self._subscriptions.open(client_id)
        self._exchange.open()

    def received(self, text: str | bytes) -> None:
        """A text message has come."""
        self._heartbeat.heard = True
        try:
            reply = decode_known(text)  # here, because a call of decode would cost each event 0.06 µs
        except UNDECODABLE:
            self._report(ServerFault(f"the server sent {len(text)} bytes that are no message of this protocol"))
            return
        if type(reply) is Event:
            feed = self._feeds.get(reply.topic) or self._subscriptions.find_feed(reply)
            if feed is not None:
                feed.take(reply)
        else:
            self._take(reply)

    def closed(self, code: int, reason: str) -> Retry | Disconnected:
        """The server has closed the connection, with this close frame."""
        known = self._explain(code)
        self._close()
        if known is not None:
            return self._reconnects.after_failure(known)
        return self._end_if_terminal(self._reconnects.after_close(code, reason))

    def lost(self, error: PubsubError) -> Retry:
        """The connection has ended without a close frame, or there was no answer to the attempt to connect."""
        self._close()
        return self._reconnects.after_failure(error)

    def refused(self, status: int) -> Retry | Disconnected:
        """The handshake was answered with an HTTP status other than 101."""
        return self._end_if_terminal(self._reconnects.after_refusal(status))

    def end(self, error: PubsubError) -> None:
        """There will be no further connection."""
        self._close()
        self._subscriptions.end(error, later=error)
        self._exchange.fail(error)

    def leave(self) -> None:
        """The user closes the client: subscriptions end, and requests without an answer fail."""
        closed = Disconnected(CLOSED_BY_USER, "the client was closed")
        self._close()
        self._subscriptions.end(None, later=closed)
        self._exchange.fail(closed)

    # --- What the user wants

    def ask(self, request: Request, answered: Callable[[Answer], None]) -> Question:
        """Send a request that changes nothing; ``answered`` gets its answer."""
        return self._exchange.ask(request, answered, kept=True)

    def publish(self, request: Publish, done: Callable[[Published | PubsubError], None]) -> Question:
        return self._publishes.publish(request, done)

    def forget(self, question: Question) -> None:
        """Send a request no more, and ignore its answer."""
        if isinstance(question.request, Publish):
            self._publishes.forget(question)
        else:
            self._exchange.forget(question)

    def renew(self, token: str) -> None:
        """Give the server a new token for the present connection."""
        self._exchange.ask(Auth(token=token), lambda answer: None)

    @property
    def has_subscriptions(self) -> bool:
        return bool(self._subscriptions)

    def overlaps(self, name: str) -> bool:
        """Return True if another subscription of this conversation covers a topic that this name or pattern covers."""
        return self._subscriptions.overlaps(name)

    def subscribe(self, wish: Wish, rules: InboxRules, answered: Callable[[PubsubError | None], None]) -> Interest:
        """Subscribe, now and in each later connection. ``answered`` gets None once the server has acknowledged it."""
        return self._subscriptions.add(wish, rules, answered)

    def unsubscribe(self, interest: Interest) -> None:
        self._subscriptions.remove(interest)

    def _take(self, reply: Known) -> None:
        match reply:
            case Info(msg="draining"):
                self._reconnects.drain(reply.reconnect_after_ms)
                self._exchange.suspend()
            case Info():
                self._subscriptions.take(reply)
            case _:
                self._exchange.take(request_id_of(reply), reply)

    def _explain(self, code: int) -> Unreachable | None:
        """Explain a close code that is not the end because its cause is known and mended."""
        if code == CloseReason.TOO_BIG.code and self._publishes.fail_largest():
            return Unreachable("a message was too big for the server")
        if code == CloseReason.FLOODING.code and self._exchange.limited:
            return Unreachable("this client sent more requests than its rate allows")
        return None

    def _report(self, fault: ServerFault) -> None:
        """Tell of the first fault of a connection. It may have many."""
        if not self._reported:
            self._reported = True
            self._host.report(fault)

    def _close(self) -> None:
        self._heartbeat.stop()
        self._subscriptions.close()
        self._exchange.close()

    def _end_if_terminal(self, decision: Retry | Disconnected) -> Retry | Disconnected:
        if isinstance(decision, Disconnected):
            self.end(decision)
        return decision
