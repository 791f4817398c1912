"""Outcomes of publishes, sent in the order of the publishes although some come later. No I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from pubsub.protocol.requests import Publish
from pubsub.websocket.replies import PauseReason, Replies

# Publishes that wait for their outcome, or for the outcome of an earlier one. Beyond it the client is not read from.
MAX_WAITING: Final = 10_000


class Waiting(Struct):
    """A publish whose answer waits: for its own outcome, or for the outcome of an earlier one."""

    request: Publish
    answer: bytes | None = None


class Outcomes:
    """The publishes of one session in their order, from the first one without an outcome."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def wait(self, request: Publish, replies: Replies) -> None:
        """Add a publish whose outcome comes later."""
        self._add(Waiting(request), replies)

    def end(self, request: Publish, answer: bytes, replies: Replies) -> None:
        """Answer a publish, after all earlier ones.

        A journal ends publishes in their order: this is the first one that waits, or one that did not have to wait.
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
