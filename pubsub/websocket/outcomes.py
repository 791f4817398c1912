"""Outcomes of publishes, told in the order of the publishes although some come later. No I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from pubsub.protocol.requests import Publish
from pubsub.websocket.replies import PauseReason, Replies

# Publishes that wait for their outcome, or for that of an earlier one: beyond it the client is not read from.
MAX_WAITING: Final = 10_000


class Waiting(Struct):
    """A publish whose answer has to wait: for its outcome, or for that of an earlier one."""

    request: Publish
    answer: bytes | None = None


class Outcomes:
    """One session's publishes in their order, from the first on whose outcome is yet to come."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def wait(self, request: Publish, replies: Replies) -> None:
        """The outcome of a publish comes later."""
        self._add(Waiting(request), replies)

    def end(self, request: Publish, answer: bytes, replies: Replies) -> None:
        """Answer a publish, but not before those that came earlier.

        A journal ends them in their order: the first that waits is the one that ends, or this one never had to wait.
        """
        waiting = self._waiting
        if not waiting:
            replies.reply(answer)
        elif waiting[0].request is not request:
            self._add(Waiting(request, answer), replies)
        else:
            waiting[0].answer = answer
            self._answer_first(replies)

    def _add(self, publish: Waiting, replies: Replies) -> None:
        self._waiting.append(publish)
        if len(self._waiting) == MAX_WAITING:
            replies.pause(PauseReason.UNANSWERED)

    def _answer_first(self, replies: Replies) -> None:
        waiting = self._waiting
        was_full = len(waiting) >= MAX_WAITING
        while waiting and (answer := waiting[0].answer) is not None:
            replies.reply(answer)
            waiting.popleft()
        if was_full and len(waiting) < MAX_WAITING:
            replies.resume(PauseReason.UNANSWERED)
