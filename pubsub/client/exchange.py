"""Requests and their answers, over all connections of a client. It must never look into a request.

There are two kinds. A request of the user is kept until it is answered or its time is over: it is sent again in the
next connection, in the same order. A request of the client itself belongs to one connection, and comes first there.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf

from msgspec import UNSET
from msgspec.structs import replace

from pubsub.client.errors import AnswerTimeout, PubsubError
from pubsub.client.host import Host, Timer
from pubsub.client.pacing import Pacing
from pubsub.client.refusals import refusal_of
from pubsub.client.replies import Error, Reply
from pubsub.client.requests import Publish, Request, encode

__all__ = ["Answer", "Exchange", "Question"]

Answer = Reply | PubsubError


class Question:
    """A request without an answer yet. ``times``: the number of connections on which it was sent."""

    __slots__ = ("_answered", "deadline", "kept", "number", "request", "text", "times")

    def __init__(self, number: int, request: Request, answered: Callable[[Answer], None], *, kept: bool) -> None:
        self.number = number
        self.request = replace(request, request_id=str(number))
        self.text = encode(self.request)
        self._answered = answered
        self.kept = kept
        self.deadline = inf
        self.times = 0

    def answer(self, answer: Answer) -> None:
        """Give the answer to the one that asked, the first time."""
        answered, self._answered = self._answered, _ignore  # which also ends a cycle of references
        answered(answer)


def _ignore(answer: Answer) -> None:
    pass


class Exchange:
    """See the module. ``timeout``: seconds for an answer; for a request of the user, from the moment it is asked.

    ``limited``: the server has refused requests for the client's rate, on the present connection.
    """

    def __init__(self, host: Host, timeout: float, pacing: Pacing) -> None:
        self._host = host
        self._timeout = timeout
        self._number = 0
        self.limited = False
        self._is_open = False
        self._ended: PubsubError | None = None
        self._own: deque[Question] = deque()
        self._kept: deque[Question] = deque()
        self._sent: dict[str, Question] = {}
        self._pacing = pacing
        self._pump_timer: Timer | None = None
        self._expiry_timer: Timer | None = None

    @property
    def awaited(self) -> bool:
        """True if an answer has to come on the present connection."""
        return bool(self._sent or self._own or self._kept)

    @property
    def sent(self) -> Iterator[Question]:
        return iter(self._sent.values())

    def ask(self, request: Request, answered: Callable[[Answer], None], *, kept: bool = False) -> Question:
        """Send a request as soon as it may be sent; ``answered`` gets its answer, a refusal as an error.

        ``kept``: it is the user's.
        """
        self._number += 1
        question = Question(self._number, request, answered, kept=kept)
        if self._ended is not None:
            answered(self._ended.copy())
            return question
        if kept:
            self._kept.append(question)
            self._watch(question)
        else:
            self._own.append(question)
        self._pump()
        return question

    def forget(self, question: Question) -> None:
        """Send a request no more, and ignore its answer."""
        if self._sent.pop(str(question.number), None) is None:
            waiting = self._kept if question.kept else self._own
            with suppress(ValueError):  # it is answered already
                waiting.remove(question)
        self._pump()

    def open(self) -> None:
        """Begin a connection. The requests of the client itself have been asked before."""
        self._is_open = True
        self.limited = False
        self._pacing.begin()
        self._pump()

    def suspend(self) -> None:
        """Send nothing more on this connection: the server has said that it will answer nothing."""
        self._is_open = False

    def close(self) -> None:
        """End a connection: the user's requests wait for the next one, the others are forgotten."""
        self._is_open = False
        self._own.clear()
        again = [question for question in self._sent.values() if question.kept]
        self._sent.clear()
        self._kept = deque(sorted([*again, *self._kept], key=_number_of))
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None

    def fail(self, error: PubsubError) -> None:
        """Answer all requests of the user with an error, now and later: there will be no further connection."""
        self.close()
        self._ended = error
        questions, self._kept = self._kept, deque()
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        for question in questions:
            question.answer(error.copy())

    def take(self, request_id: str, reply: Reply) -> None:
        """Take an answer. One that nobody waits for any more is ignored."""
        question = self._sent.pop(request_id, None)
        if question is None:
            pass  # it was forgotten
        elif isinstance(reply, Error) and reply.error.code == "RATE_LIMITED":
            self._wait_for_rate(question, reply)
        else:
            self._pacing.answered()
            question.answer(refusal_of(reply.error) if isinstance(reply, Error) else reply)
        self._pump()

    def _wait_for_rate(self, question: Question, refusal: Error) -> None:
        """Send a request again when the server allows it, before later ones."""
        wait = refusal.error.retry_after_ms
        self.limited = True
        self._pacing.refused(0 if wait is UNSET else wait, self._host.clock())
        question.times -= 1
        insort(self._kept if question.kept else self._own, question, key=_number_of)

    def _pump(self) -> None:
        """Send what may be sent now."""
        while self._is_open and (waiting := self._own or self._kept):
            now = self._host.clock()
            delay = self._pacing.delay(len(self._sent), now)
            if delay:
                if delay != inf and self._pump_timer is None:
                    self._pump_timer = self._host.call_later(delay, self._pump_again)
                return
            self._pacing.sent(now)
            self._send(waiting.popleft())

    def _pump_again(self) -> None:
        self._pump_timer = None
        self._pump()

    def _send(self, question: Question) -> None:
        question.times += 1
        if not question.kept:
            self._watch(question)
        self._sent[str(question.number)] = question
        self._host.send(question.text)

    def _watch(self, question: Question) -> None:
        question.deadline = self._host.clock() + self._timeout
        if self._expiry_timer is None:
            self._expiry_timer = self._host.call_later(self._timeout, self._expire)

    def _expire(self) -> None:
        """End the requests whose time is over. One that the server's rate keeps from being sent has more time."""
        now = self._host.clock()
        self._expiry_timer = None
        if self._is_open:
            for question in self._kept:
                question.deadline = now + self._timeout
        for question in [each for each in (*self._sent.values(), *self._kept) if each.deadline <= now]:
            self.forget(question)
            question.answer(AnswerTimeout(self._explain(question)))
        deadlines = [each.deadline for each in (*self._sent.values(), *self._kept)]
        if deadlines and self._expiry_timer is None:
            self._expiry_timer = self._host.call_later(min(deadlines) - now, self._expire)

    def _explain(self, question: Question) -> str:
        if not question.times:
            return f"not sent: there was no connection for {self._timeout:g} s"
        done = " (the message may or may not be in the topic)" if isinstance(question.request, Publish) else ""
        return f"no answer came within {self._timeout:g} s{done}"


def _number_of(question: Question) -> int:
    return question.number
