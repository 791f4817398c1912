"""Publishes and their outcomes, over all connections of a client. It must never give a message another id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from pubsub.client.errors import Conflict, Disconnected, PubsubError, ServerFault, TooBig, Unreachable
from pubsub.client.exchange import Answer, Exchange, Question
from pubsub.client.outcomes import Published
from pubsub.client.replies import Ack, HistoryReply
from pubsub.client.requests import History, Publish

__all__ = ["OwnIds", "Publishes"]

REMEMBERED: Final = 10_000
"""The ids of so many messages are remembered after their answers."""


class OwnIds:
    """The ids of messages that this client published: of all without an answer, and of the last ones with one."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._answered: deque[str] = deque()

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._ids

    def add(self, message_id: str) -> None:
        self._ids.add(message_id)

    def settle(self, message_id: str) -> None:
        """Note that no answer is awaited any more."""
        self._answered.append(message_id)
        if len(self._answered) > REMEMBERED:
            self._ids.discard(self._answered.popleft())


class Publishes:
    """See the module."""

    def __init__(self, exchange: Exchange, own_ids: OwnIds) -> None:
        self._exchange = exchange
        self._own_ids = own_ids

    def publish(self, request: Publish, done: Callable[[Published | PubsubError], None]) -> Question:
        """Publish; ``done`` gets the outcome. The message is sent again, with its id, in each connection up to then."""

        def answered(answer: Answer) -> None:
            self._own_ids.settle(request.message.id)
            match answer:
                case Ack():
                    done(Published(request.topic, request.message.id, answer.seq, answer.duplicate))
                case Conflict() if question.times > 1:
                    self._look_for(request, answer, done)
                case PubsubError():
                    done(answer)
                case _:
                    done(ServerFault(f"expected an ack of a publish, got {type(answer).__name__}"))

        self._own_ids.add(request.message.id)
        question = self._exchange.ask(request, answered, kept=True)
        return question

    def forget(self, question: Question) -> None:
        """Send a publish no more: its user does not wait for it any more."""
        self._exchange.forget(question)
        assert isinstance(question.request, Publish), "it was made by publish"
        self._own_ids.settle(question.request.message.id)

    def fail_largest(self) -> bool:
        """Fail the largest publish without an answer: it was too big. Return False if there is none."""
        sent = [question for question in self._exchange.sent if isinstance(question.request, Publish)]
        if not sent:
            return False
        largest = max(sent, key=lambda question: len(question.text))
        self._exchange.forget(largest)
        largest.answer(TooBig(f"the message was too big for the server; it had {len(largest.text):,} bytes"))
        return True

    def _look_for(self, request: Publish, conflict: Conflict, done: Callable[[Published | PubsubError], None]) -> None:
        """Look if the message that conflicts is this one: its answer was lost with an earlier connection."""
        assert isinstance(request.expect_seq, int), "only such a request can conflict"
        wanted = History(topic=request.topic, after=request.expect_seq, limit=1)
        self._exchange.ask(wanted, partial(self._found, request, conflict, done), kept=True)

    def _found(
        self, request: Publish, conflict: Conflict, done: Callable[[Published | PubsubError], None], answer: Answer
    ) -> None:
        first = answer.messages[0] if isinstance(answer, HistoryReply) and answer.messages else None
        assert isinstance(request.expect_seq, int), "only such a request can conflict"
        if first is not None and first.seq == request.expect_seq + 1 and first.message.id == request.message.id:
            done(Published(request.topic, request.message.id, first.seq))
        else:
            done(answer if isinstance(answer, Unreachable | Disconnected) else conflict)
